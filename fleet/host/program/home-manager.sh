# --- home-manager, of a user ----------------------------------------------------------------------------
#
# What it knows of its scripts was read in nix-community/home-manager of August 2026, modules/home-environment.nix, lib-bash and
# files.nix: `activate` keeps a root, current-home, to what it has activated, and with --driver-version 1 it leaves the profile
# alone. Scripts from before 25.11 (without the file gen-version) read no options, and set the profile. Everything in the home is
# read and written as the user, who may have left anything there. So no program of OLD or NEW is run as anybody else.

# sets: lasting needed user home owner_id said as running profiled
home_manager_facts() {
    lasting=yes needed='activate home-files'
    user=${site#-}
    IFS=: read -r _ _ owner_id _ _ home _ <<EOF
$(getent passwd "$user")
EOF
    case $home in /*[!0-9A-Za-z/._+-]* | [!/]* | '') refuse unfit "there is no user $user, or '$home' is no home to work in" ;; esac
    as="runuser -u $user -- env -i USER=$user LOGNAME=$user HOME=$home XDG_RUNTIME_DIR=/run/user/$owner_id PATH=$PATH"
    # shellcheck disable=SC2016,SC2086  # for another shell; words
    said=$(with_timeout 20 $as sh -c '
        mine=$HOME/.local/state/nix/profiles shared=/nix/var/nix/profiles/per-user/$USER
        if [ ! -d "$mine" ] && [ -d "$shared" ]; then mine=$shared; fi
        echo "$mine"
        readlink -e "$mine/home-manager" || echo
        readlink -e "$HOME/.local/state/home-manager/gcroots/current-home"')
    {
        read -r said
        read -r profiled
        read -r running
    } <<EOF
$said
EOF
    case $said in
        /nix/var/nix/profiles/per-user/"$user") place_profile "$said/home-manager" ;;
        *) place_profile "$home/.local/state/nix/profiles/home-manager" ;;
    esac
    is_store_path "$profiled" || profiled=$nothing
    is_store_path "$running" || running=$nothing
}

# sets: units
home_manager_units() { units=$1/home-files/.config/systemd/user; }

# sets: old_profile status
home_manager_activate() {
    if [ "$1" = $nothing ]; then home_manager_unlink; return; fi
    # shellcheck disable=SC2086  # words
    bounded $as "$1/activate" --driver-version 1
    status=$?
    if [ ! -e "$1/gen-version" ] && [ "$(profile_system)" != "$(get old_profile)" ]; then
        old_profile=$(get old_profile)
        reset_profile_link
    fi
    return $status
}

home_manager_go_back() {
    home_manager_unlink || [ "$1" != $nothing ] || return
    [ "$1" = $nothing ] || home_manager_activate "$1"
}

# Take away what leads to files of NEW, and the packages that came with it: it cannot do that itself.
home_manager_unlink() {
    # shellcheck disable=SC2016,SC2086  # for another shell; words
    bounded $as sh -c '
        files=$(readlink -e "$1/home-files") || exit
        cd "$files" && find . ! -type d | while IFS= read -r file; do
            [ "$(readlink "$HOME/$file")" != "$files/${file#./}" ] || rm -f "$HOME/$file"
        done
        ! nix-env -q 2>/dev/null | grep -qx home-manager-path || nix-env -e home-manager-path
        rm -f "$HOME/.local/state/home-manager/gcroots/current-home"' sh "$new"
}

home_manager_commit() { :; }            # the profile is all: what is in a home is there after a boot

# sets: default
home_manager_verify() {
    home_manager_facts
    default=$profiled
}
