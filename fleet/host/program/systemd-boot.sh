# --- systemd-boot --------------------------------------------------------------------------------------

efi=$platform/efi/efivars
loader_guid=4a67b082-0a4c-41cf-b6c7-440b29bb8c4f        # https://systemd.io/BOOT_LOADER_INTERFACE

# Succeed unless it is plain that systemd-boot has not booted this machine: it needs EFI, and leaves variables there.
systemd_boot_may_have_booted() {
    if [ -d "$platform/efi" ]; then
        [ -e "$efi/LoaderInfo-$loader_guid" ] || is_empty "$efi"
    else
        is_empty "$platform"
    fi
}

# sets: default doubt
systemd_boot_default() {
    default_entry || return
    if system_of_entry "$menu_entry"; then default=$system; else doubt="$menu_entry names no system on a command line"; fi
}

# Let $menu_entry be the file of the entry that boots by default: the first in the menu that matches what $chosen_by names. Fail
# where that is not certain, and let $doubt say why.
# sets: menu_entry doubt preferred wanted key value chosen_by pattern
default_entry() {
    menu_entry=''
    find_loader_conf
    [ -n "$conf" ] || { doubt="no loader.conf is on the partition that systemd-boot is booted from"; return 1; }
    list_entries
    preferred='' wanted=''
    while read -r key value || [ -n "$key" ]; do
        case $key in preferred) preferred=$value ;; default) wanted=$value ;; esac
    done <"$conf"
    for chosen_by in LoaderEntryPreferred LoaderEntryDefault preferred default menu; do
        case $chosen_by in
            LoaderEntry*) read_efi "$chosen_by"; pattern=$variable ;;
            preferred) pattern=$preferred ;;
            default) pattern=$wanted ;;
            menu) pattern='*' ;;
        esac
        if [ "$pattern" = @saved ]; then
            read_efi LoaderEntryLastBooted
            pattern=$variable chosen_by="$chosen_by @saved"
        fi
        match_entries "$pattern"
        # shellcheck disable=SC2086  # a list
        set -- $matching
        [ $# -eq 0 ] || break
        doubt="$chosen_by names '$pattern', an entry that systemd-boot makes by itself: whether there is one, no file tells"
        case $pattern in auto-*) return 1 ;; esac
    done
    doubt="systemd-boot has no entry"
    [ $# -gt 0 ] || return
    doubt="whether LoaderEntryDefault or 'preferred' counts is for its version of systemd-boot to say"
    case $chosen_by in LoaderEntryDefault*) match_entries "$preferred"; [ -z "$matching" ] || return ;; esac
    doubt="which of $# entries systemd-boot takes for '$pattern' is not certain"
    menu_entry=$1
    [ $# -eq 1 ] || menu_entry=$(first_in_menu "$@") || return
    doubt="systemd-boot avoids $menu_entry, which is out of tries"
    ! is_out_of_tries "$menu_entry" || return
    doubt=''
}

# Let $conf be the loader.conf that systemd-boot reads: it is on the partition that this was booted from. Where nothing tells
# that, it is the one that was written last.
# sets: partition folder theirs conf
find_loader_conf() {
    read_efi LoaderDevicePartUUID
    partition=$variable
    set --
    for folder in $folders; do
        [ -e "$folder/loader/loader.conf" ] || continue
        theirs=
        [ -z "$partition" ] || theirs=$(findmnt -nro PARTUUID -T "$folder" | tail -n 1 | tr '[:upper:]' '[:lower:]')
        [ -z "$theirs" ] || [ "$theirs" = "$partition" ] || continue
        set -- "$@" "$folder/loader/loader.conf"
    done
    find_newest "$@"
    conf=$newest
}

# Succeed if folder $1 may have entries for that loader.conf: it is its own, or another partition.
may_have_entries() {
    [ "$1" = "${conf%/loader/loader.conf}" ] || { [ ! -e "$1/loader/loader.conf" ] && is_mount_point "$1"; }
}

# Let $matching be the entries of $entries whose ids match pattern $1, in any case.
# sets: id file matching
match_entries() {
    matching=
    [ -n "$1" ] || return 0
    case $1 in *[[:upper:]]*) set -- "$(printf %s "$1" | tr '[:upper:]' '[:lower:]')" ;; esac
    while read -r id file; do
        # shellcheck disable=SC2254  # a pattern
        case $id in $1 | $1.conf | $1.efi) matching="${matching:+$matching }$file" ;; esac
    done <<EOF
$entries
EOF
}

# Let $entries be the id and the file of each entry, a line for each. The name of a file may have a counter too: ID+3-1.conf. What
# is in EFI/Linux is an entry as it is: a unified kernel image.
# sets: folder entries file
list_entries() {
    entries=
    for folder in $folders; do
        may_have_entries "$folder" || continue
        set +f
        for file in "$folder"/loader/entries/*.[cC][oO][nN][fF] "$folder"/EFI/Linux/*.[eE][fF][iI]; do
            [ -e "$file" ] || continue
            find_id "$file"
            entries="$entries$id $file$newline"
        done
        set -f
    done
}

# Let $id be that of the entry in file $1.
# sets: id
find_id() {
    id=${1##*/}
    case $id in *[[:upper:]]*) id=$(printf %s "$id" | tr '[:upper:]' '[:lower:]') ;; esac
    set -- "${id%.*}" ".${id##*.}"
    case $1 in *+*) ;; *) return ;; esac
    case ${1##*+} in *[!0-9-]* | *-*-*) ;; *) id=${1%+*}$2 ;; esac
}

is_out_of_tries() { case ${1##*/} in *+0.* | *+0-*.*) ;; *) return 1 ;; esac; }

# Print which of the entries comes first in the menu. That is certain for one alone, and for NixOS's, whose versions count
# their generations; fail where it is not.
# sets: menu first first_key first_place key place file
first_in_menu() {
    [ $# -gt 1 ] || { echo "$1"; return; }
    menu=$(for file; do is_out_of_tries "$file" || menu_place "$file"; done | LC_ALL=C sort -k 1,1 -k 2,2nr -k 3,3n)
    first=
    while read -r key place file; do
        if [ -z "$first" ]; then first=${file##* } first_key=$key first_place="$place ${file% *}"; continue; fi
        [ "$key" = "$first_key" ] || break      # this key comes after all of the other
        place="$place ${file% *}"
        case "$first_place $place" in *-*) return 1 ;; esac
        [ "$place" != "$first_place" ] && [ "${place##* }" = "${first_place##* }" ] || return
    done <<EOF
$menu
EOF
    [ -n "$first" ] && echo "$first"
}

# Print what puts entry $1 at its place in the menu: sort key (~ where it has none: those come last), generation (- where it
# names none), whether it is a specialisation, machine, and its file.
# sets: sort_key machine generation key value
menu_place() {
    sort_key='~' machine=none generation=
    while read -r key value; do
        case $key in
            sort-key) sort_key=$value ;;
            machine-id) machine=$value ;;
            version) generation=$value ;;
        esac
    done <<EOF
$(text_of_entry "$1")
EOF
    [ "$sort_key" != '~' ] || generation="Generation ${1##*/nixos-generation-}"        # its id counts then
    generation=$(expr "$generation" : 'Generation \([0-9]*\)')
    case $1 in *-specialisation-*) value=1 ;; *) value=0 ;; esac
    echo "${sort_key%% *} ${generation:--} $value ${machine%% *} $1"
}

# Print entry $1. What a unified kernel image says of itself is printed in the words of a file.
text_of_entry() {
    case $1 in
        *.[cC][oO][nN][fF]) get "$1" ;;
        *)
            pe_section "$1" .osrel | tr -d "\"'" | sed -n 's/^\(IMAGE_\)*ID=/sort-key /p; s/^VERSION_ID=/version /p'
            echo "options $(pe_section "$1" .cmdline | tr '\n' ' ')"
            ;;
    esac
}

# Let $system be the one that entry $1 boots; fail where it names none.
# sets: image key value
system_of_entry() {
    image=
    while read -r key value; do
        case $key in
            options) if system_of_command_line "$value"; then return; fi ;;
            uki | efi) image=${1%/loader/entries/*}/$value ;;
        esac
    done <<EOF
$(text_of_entry "$1")
EOF
    [ -n "$image" ] && system_of_command_line "$(pe_section "$image" .cmdline)"
}

# Print section $2 of the PE image $1, at most 64 KiB of it. Byte 60 tells where the image has its header. After that is a
# table with 40 bytes for each section: its name, its size at 8, and at 20 its place.
# sets: header sections
pe_section() {
    header=$(pe_number "$1" 60)
    [ "$(pe_number "$1" "$header")" = 17744 ] || return         # PE
    sections=$(($(pe_number "$1" $((header + 6))) & 0xffff))
    header=$((header + 24 + ($(pe_number "$1" $((header + 20))) & 0xffff)))
    [ $sections -gt 0 ] && [ $sections -le 96 ] || return
    # shellcheck disable=SC2046  # numbers
    set -- "$1" $(printf '%s\0\0\0\0\0\0\0' "$2" | od -An -v -t u1 -N 8)
    od -An -v -w40 -t u1 -j $header -N $((sections * 40)) "$1" |
        while read -r n1 n2 n3 n4 n5 n6 n7 n8 s1 s2 s3 s4 _ _ _ _ _ _ _ _ p1 p2 p3 p4 _; do
            [ "$n1 $n2 $n3 $n4 $n5 $n6 $n7 $n8" = "$2 $3 $4 $5 $6 $7 $8 $9" ] || continue
            [ "$s3 $s4" = "0 0" ] || s1=255 s2=255
            tail -c +$((p1 + p2 * 256 + p3 * 65536 + p4 * 16777216 + 1)) "$1" | head -c $((s1 + s2 * 256)) | tr -d '\000'
            break
        done
}

# Print the number in the four bytes of file $1 from byte $2 on, the lowest first; 0 where the file ends before that.
pe_number() {
    # shellcheck disable=SC2046  # numbers
    set -- $(od -An -v -t u1 -j "$2" -N 4 "$1" 2>/dev/null) 0 0 0 0
    echo $(($1 + $2 * 256 + $3 * 65536 + $4 * 16777216))
}

# Print entry $1, whose files are named as Linux names them.
files_of_entry() { sed "s|[[:space:]]/| ${1%/loader/entries/*}/|" "$1"; }

# Let $variable be that of the boot loader interface, which has four bytes of attributes and then UTF-16; in lower case, since
# ids are compared without. It is empty where there is none.
# sets: variable
read_efi() {
    variable=
    [ -e "$efi/$1-$loader_guid" ] || return 0
    # shellcheck disable=SC2002  # of a pipe: the kernel lets nobody seek in a variable
    variable=$(cat "$efi/$1-$loader_guid" 2>/dev/null | tail -c +5 | tr -d '\000' | tr '[:upper:]' '[:lower:]')
}

# Succeed if the entries of systemd-boot, booted once, would be followed by the default.
# sets: why
systemd_boot_boots_once() {
    why="systemd-boot has left no EFI variables"
    [ -e "$efi/LoaderInfo-$loader_guid" ] || return
    why="the command line of $menu_entry cannot be changed, since it is in a unified kernel image"
    grep -qs '^options[[:space:]]' "$menu_entry"
}

# sets: entry
systemd_boot_add_trial() {
    find_boot_folders
    find_loader_conf
    list_entries
    match_entries '*'
    for entry in $matching; do
        if [ "${entry##*/}" = $trial.conf ] || ! system_of_entry "$entry" || [ "$system" != "$new" ]; then continue; fi
        grep -q '^options[[:space:]]' "$entry" || continue
        files_of_entry "$entry" | names_files_of_new || continue
        replace_synced "${entry%/*}/$trial.conf" "$(sed "s|^options.*|& $reset_parameters|" "$entry")"
        return
    done
    return 1
}

systemd_boot_choose_trial() {
    bootctl set-oneshot $trial.conf
    read_efi LoaderEntryOneShot
    case $variable in *$trial.conf*) ;; *) return 1 ;; esac
}

# sets: entry
systemd_boot_remove_trial() {
    [ ! -e "$efi/LoaderInfo-$loader_guid" ] || bootctl set-oneshot ""
    find_boot_folders
    find_boot_files loader/entries/$trial.conf
    for entry in $files; do rm -f "$entry" && sync -f "${entry%/*}"; done
}
