# --- the gate: what an order has to bring ----------------------------------------------------------------
#
# After the part of a signed order comes what makes it good, and then `end` as ever:
#
#   fleet-plan v1          the head of the plan: each of $head_keys, any number of $head_lists
#   fleet-signatures v1    lines `signature BASE64`
#   fleet-manifest v1      lines `PATH sha256:HASH`, where this host asked for them
#
# Nothing of it is believed before it is known to be signed. The part's digest is in the head, and the head is what was signed.

head_keys="fleet by verb goal made expires source intent amends ledger at_once push_at_once max_failures all_or_nothing waves undo"
head_lists="other_source nix_option soak after left_out finding host"
admitted=                               # signed, or unsigned: a way back that needs no signature

# Read the order from stdin, and take it apart: files plan, part, signatures, manifest and order, which is what `begin` reads.
# sets: admitted titles
open_gate() {
    make_folder
    head -c $((most_input + 1)) >./all || refuse full "cannot write /run/fleet"
    [ "$(stat -c %s all)" -le $most_input ] || refuse gate "the order has more than $most_input bytes"
    [ "$(tail -c 5 all | tr '\n' '|')" = '|end|' ] || refuse usage "the order was cut short"
    [ "$(tr -d '\n -~' <all | wc -c)" -eq 0 ] || refuse gate "the order is not all printable ASCII"
    titles=$(grep '^fleet-' all | head -n 6 | paste -sd '|')
    case $titles in
        'fleet-order v1|fleet-part v1') admitted=unsigned ;;
        'fleet-order v1|fleet-part v1|fleet-plan v1|fleet-signatures v1') admitted=signed ;;
        'fleet-order v1|fleet-part v1|fleet-plan v1|fleet-signatures v1|fleet-manifest v1') admitted=signed ;;
        *) refuse gate "the order has other sections than an order, a part, a plan, signatures and a manifest: $titles" ;;
    esac
    sed '/^fleet-plan /,$d; /^end$/d' all >./order
    sed -n '/^fleet-part /,$p' order >./part
    echo end >>./order
    # Nobody has signed who asks and what for, and each look at the host tells it: an answer has limits.
    [ "$(sed '/^fleet-part /,$d' order | wc -L)" -le $most_line ] || refuse gate "the order has a line of more than $most_line characters before its part"
    [ "$(wc -l <order)" -le 2000 ] || refuse gate "the order has more than 2000 lines before its plan"
    sed '1,/^fleet-signatures /d; /^fleet-manifest /,$d; /^end$/d' all >./signatures
    sed '1,/^fleet-manifest /d; /^end$/d' all >./manifest
    sed -n '/^fleet-plan /,${/^fleet-signatures /q;p;}' all >./plan
    require_ours
    if [ $admitted = signed ]; then
        require_head
        require_signatures /run/current-system
    fi
}

# Let $text be the value of the one line $2 of file $1; empty where there is none, or more than one.
# sets: text
value_of() {
    text=$(sed -n "s/^$2 //p" "$1")
    case $text in -) text= ;; *"$newline"*) text= ;; esac
}

# Refuse a part that is another host's: by its name, and by the key that this one shows.
# sets: name own_keys
require_ours() {
    value_of part host
    name=${text%% *}
    [ "$name" = "$own_name" ] || refuse gate "the part is for host '$name', and this is $own_name"
    own_keys=$(print_own_keys)
    case ${text#* }:$own_keys in
        SHA256:*:*" ${text#* } "*) ;;
        *) refuse gate "the part is for a host with the key '${text#* }', and this host shows$own_keys: it is another machine of that name" ;;
    esac
}

# Print the fingerprints of the keys that sshd shows here, each between spaces.
# shellcheck disable=SC2086  # paths have no spaces
print_own_keys() { for key in $host_keys; do ssh-keygen -l -f "$key"; done 2>/dev/null | sed -n 's/^[0-9]* \(SHA256:[^ ]*\) .*/ \1 /p' | tr -d '\n'; }

# Refuse a plan that is not one, is another fleet's, has not this very part, or is over.
# sets: seen key line now newest digest made file
require_head() {
    seen=
    while IFS= read -r line; do
        key=${line%% *}
        case $key in fleet-plan) [ "$line" = 'fleet-plan v1' ] && continue ;; esac
        is_among "$head_keys $head_lists" || refuse gate "the plan has a line that this gate does not know: $line"
        is_among "$head_lists" || ! is_among "$seen" || refuse gate "the plan has '$key' twice"
        seen="$seen $key"
    done <plan
    value_of plan fleet
    [ "${text#* }" = "$own_fleet" ] || refuse gate "the plan is for fleet '${text#* }', and this host is of $own_fleet"
    digest=$(sha256sum <part)
    [ "$(grep "^host $own_name " plan)" = "host $own_name ${digest%% *}" ] ||
        refuse gate "the part is not the one that the plan was made with"
    value_of order plan
    digest=$(sha256sum <plan)
    [ "$text" = "${digest%% *}" ] || refuse gate "the order names another plan than the one that it brings"
    now=$(date +%s)
    read_line $record/newest-plan
    newest=${text:-0}
    [ "$newest" -le "$now" ] || now=$newest
    value_of plan made
    made=$text
    is_count "$made" || refuse gate "the plan does not say when it was made"
    for file in plan part; do
        value_of $file expires
        { is_count "$text" && [ "$text" -gt "$now" ]; } || refuse gate "the plan expired at '$text', and it is $now here, by the clock \
or by the newest plan that was taken: make it again"
    done
}

# Let $names be the lines `IDENTITY NAME` of the signers in system $1. Two keys that one FIDO device has are one. Refuse a
# file that the module did not write, or in which a key has two names.
# sets: names text
read_signers() {
    ! grep -qvxE '[0-9A-Za-z][0-9A-Za-z._-]* namespaces="fleet-plan@v1(,fleet-approval@v1)?" [0-9a-z@.-]+ [0-9A-Za-z+/]+={0,2}' \
        "$1/$gate_files/allowed_signers" || refuse gate "allowed_signers of $1 has a line that is not as the module writes it"
    names=$(sed -E 's/^([^ ]+) [^ ]+ ([^ ]+ [^ ]+)$/\2 \1/
        s/^(sk-ssh-ed25519@openssh.com .{88})[^ ]*/\1/; s/^(sk-ecdsa-sha2-nistp256@openssh.com .{158})[^ ]*/\1/' \
        "$1/$gate_files/allowed_signers" | sort -u)
    text=$(printf '%s\n' "$names" | sed 's/ [^ ]*$//' | uniq -d)
    [ -z "$text" ] || refuse gate "one key has two names in allowed_signers of $1: nobody could tell who has signed"
}

# Refuse the plan unless its author has signed it and as many different people have approved it as the gate of system $1 asks.
# That of another system than this one is asked for approvals alone.
# sets: author signed approvers people ignored line
require_signatures() {
    read_gate "$1" || refuse gate "$why"
    read_signers "$1"
    [ "$(grep -c . signatures)" -le 64 ] || refuse gate "the order has more than 64 signatures"
    value_of plan by
    author=$text signed='' approvers='' people=0 ignored=
    while IFS= read -r line; do count_signature "$1" "$line"; done <signatures
    ignored=${ignored:+ (not counted: $ignored)}
    [ "$1" != /run/current-system ] || [ -n "$signed" ] || refuse gate "$author, who is to have made the plan, has not signed it$ignored"
    [ $people -ge "$required" ] || refuse gate "the gate of $1 asks for $required approvals by different people, and the plan has \
$people${approvers:+:}$approvers$ignored"
}

# Count the signature in line $2 by the gate of system $1.
# sets: signed approvers people ignored signer line
count_signature() {
    take_apart "${2#signature }" || refuse gate "a line of the signatures is no signature: $why"
    signer=
    while IFS= read -r line; do
        if [ "${line##* }" = "$key" ]; then signer=${line%% *}; break; fi
    done <"$1/$gate_files/allowed_signers"
    if [ -z "$signer" ]; then ignored="${ignored:+$ignored; }one by a key that nobody here has"; return; fi
    case $namespace in
        fleet-plan@v1) ;;
        fleet-approval@v1)
            case $line in *,fleet-approval@v1\"*) ;; *) ignored="${ignored:+$ignored; }$signer is no person, and only people approve"; return ;; esac
            ;;
        *) ignored="${ignored:+$ignored; }$signer has signed for '$namespace'"; return ;;
    esac
    { echo '-----BEGIN SSH SIGNATURE-----'; fold -w 70 one; echo; echo '-----END SSH SIGNATURE-----'; } >./armour
    with_timeout 20 ssh-keygen -Y verify -f "$1/$gate_files/allowed_signers" -I "$signer" -n "$namespace" -s "$own_folder/armour" \
        <plan >/dev/null 2>&1 || refuse gate "the signature by $signer is not good: the plan was changed after it was signed"
    if [ "$namespace" = fleet-plan@v1 ]; then
        [ "$signer" = "$author" ] || refuse gate "the plan says that $author has made it, and $signer has signed it as its author"
        signed=yes
        return
    fi
    if [ "$touch" = yes ] && ! is_touched; then ignored="${ignored:+$ignored; }$signer has touched no FIDO key"; return; fi
    case "$approvers " in *" $signer "*) return ;; esac
    approvers="$approvers $signer" people=$((people + 1))
}

# Take signature $1 apart (OpenSSH: PROTOCOL.sshsig): its $key in base64, its $namespace, and its bytes in file blob. Nothing of
# it is verified.
# sets: why at field length key namespace
take_apart() {
    why="it is not base64 on one line"
    case $1 in '' | *[!0-9A-Za-z+/=]*) return 1 ;; esac
    why="it is longer than any"
    [ ${#1} -le 12000 ] || return
    printf %s "$1" >./one
    why="it is not base64 as it should be"
    base64 -d one >./blob 2>/dev/null && [ "$(base64 -w 0 blob)" = "$1" ] || return
    # shellcheck disable=SC2046  # numbers
    set -- $(od -An -v -tu1 blob)
    why="it is not made by ssh-keygen -Y sign"
    [ $# -gt 10 ] && [ "$1 $2 $3 $4 $5 $6 $7 $8 $9 ${10}" = '83 83 72 83 73 71 0 0 0 1' ] || return
    shift 10
    at=10
    for field in key namespace reserved hash signature; do
        [ $# -ge 4 ] || return
        length=$(($1 << 24 | $2 << 16 | $3 << 8 | $4)) at=$((at + 4))
        shift 4
        [ $length -le $# ] || return
        case $field in
            key) key=$(bytes $at $length | base64 -w 0) ;;
            namespace) namespace=$(bytes $at $length | tr -c ' -~' '?') ;;
        esac
        at=$((at + length))
        shift $length
    done
    [ $# -eq 0 ]
}

bytes() { tail -c "+$(($1 + 1))" blob | head -c "$2"; }

# Succeed if the signature in file blob was made by a FIDO device that somebody has touched: its last five bytes are the flags
# and a counter (PROTOCOL.u2f), which ssh-keygen does not look at when it verifies.
is_touched() {
    case $line in *' sk-'*) ;; *) return 1 ;; esac
    [ $(($(tail -c 5 blob | head -c 1 | od -An -tu1) & 1)) -eq 1 ]
}
