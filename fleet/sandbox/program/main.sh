#!/bin/sh
# Makes the network and the folders of a sandbox on a host, starts it, proves that it holds, and removes it all again.
#
# Units of services.fleet.sandbox call it, and so does `fleet sandbox`. What a sandbox may is in $declared/NAME, which comes from
# the closure: lines of a word and its value. What it is at the moment is below $runs, and gone after a reboot. Each answer ends with
# the line `end`, so that nothing that was cut short counts.
declared=/etc/fleet/sandboxes
runs=/run/fleet-sandboxes

main() {
    set -euf
    umask 022
    verb=${1-}
    if [ "$verb" = list ]; then list; return; fi
    read_declaration "${2-}"
    case $verb in
        setup) setup ;;
        teardown) teardown ;;
        names) names ;;
        link) address_of_host ;;
        end) stop ;;
        up) alone; up ;;
        down) alone; down ;;
        reset) alone; reset ;;
        prove) alone; prove ;;
        enter) shift 2; enter "$@" ;;
        *) die "no such verb: $verb" ;;
    esac
}

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Let the variables of a sandbox be what is declared of it.
# sets: name backend tap mac host address work keeps size ttl nix shell unit run space table allowed named credentials properties opened limits
read_declaration() {
    case $1 in '' | *[!a-z0-9-]*) die "no name of a sandbox: $1" ;; esac
    name=$1 backend='' tap='' mac='' host='' address='' work='' keeps=no size='' ttl='' nix=no limits=yes shell=''
    allowed='' named='' credentials='' properties='' opened=''
    [ -r "$declared/$name" ] || die "this host declares no sandbox $name: services.fleet.sandbox.sandboxes, and deploy"
    {
        IFS= read -r title
        [ "$title" = 'fleet-sandbox v1' ] || die "$declared/$name is of another version"
        while read -r key value; do
            case $key in
                backend | tap | mac | host | address | work | keeps | size | ttl | nix | limits | shell) eval "$key=\$value" ;;
                allow) allowed="$allowed$value
" ;;
                resolve) named="$named$value
" ;;
                credential) credentials="$credentials$value
" ;;
                opens) opened="$opened$value
" ;;
                property) properties="$properties$value
" ;;
                *) die "$declared/$name has a line that nobody knows: $key" ;;
            esac
        done
    } <"$declared/$name"
    unit=fleet-sandbox-$name.service run=$runs/$name space=fleet-$tap table=fleet_$(printf %s "$tap" | tr - _)
    [ "$backend" = systemd ] || unit=microvm@$name.service
}

has_egress() { [ -n "$allowed$named" ]; }

