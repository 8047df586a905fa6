#!/bin/sh
# Makes this closure the current system: its etc in /etc, then /run/current-system. Like NixOS, it moves
# /run/current-system even when a snippet failed, and tells with its exit status.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 0022
toplevel=@toplevel@
status=0

# A link is replaced by rename: there is no moment without it.
point() {
    ln -sfn "$2" "$1.lab-$$" && mv -fT "$1.lab-$$" "$1"
}

# Everything of ours in /etc is a link into /etc/static, so what a closure leaves behind is a dangling one.
# shellcheck disable=SC2317 # called by name, through snippet
link_etc() {
    point /etc/static "$toplevel/etc" || return 1
    find -L "$toplevel/etc/" ! -type d -printf '%P\n' | while read -r path; do
        [ "$(readlink "/etc/$path")" != "/etc/static/$path" ] || continue
        if [ -e "/etc/$path" ] || [ -L "/etc/$path" ]; then
            echo "warning: /etc/$path is not from a closure, left alone" >&2
            continue
        fi
        mkdir -p "/etc/${path%"${path##*/}"}" && ln -s "/etc/static/$path" "/etc/$path" || echo "$path"
    done | {
        read -r failed && echo "could not link $failed into /etc" >&2 && return 1
        return 0
    } || return 1
    find /etc -type l -lname '/etc/static/*' ! -exec test -e '{}' ';' -delete
}

snippet() {
    "$@" || {
        code=$?
        status=1
        echo "Activation script snippet '$name' failed ($code)"
    }
}

name=etc
snippet link_etc
if [ -e "$toplevel/lab/activation-script" ]; then
    name=lab
    snippet sh -e "$toplevel/lab/activation-script"
fi
point /run/current-system "$toplevel" || status=1
exit "$status"
