# --- macOS: what launchd, sysctl and files do in place of systemd, the journal and /proc -----------------
#
# It has not been run on macOS: docs/not-run.md. What it knows is from the manuals launchd.plist(5), launchctl(1), sysctl(8) and
# hier(7). The tools are GNU's, and flock, which the system has to have: docs/drivers.md. No units are judged here.

launchd_folder=/Library/LaunchDaemons   # what a boot loads

# Let the functions that ask Linux ask macOS from now on.
# shellcheck disable=SC2317,SC2329  # the others call them
# sets: PATH
use_launchd() {
    PATH=/run/current-system/sw/bin:$PATH
    is_root() { [ "$(id -u)" = 0 ]; }
    boot_id() { sysctl -n kern.bootsessionuuid; }
    clock() { launchd_clock; }
    random_word() { launchd_word; }
    mounts() { :; }                     # in no file
    start_unit() { launchd_start "$@"; }
    is_inactive() { ! launchctl print "system/$1" 2>/dev/null | grep -q 'state = running'; }
    stop_unit() {
        launchctl bootout "system/$1" 2>/dev/null
        is_inactive "$1"
    }
    manager_within() { :; }
    manager() { :; }                    # has no units that systemd would know
    not_shutting_down() { :; }          # launchd ends the keeper with the rest
    boot_has_finished() { :; }
    said_by() { cat "${open%/*}/$1.log" 2>/dev/null; }
    tell_lines() { launchd_tell "fleet-switch-$1$site" "${2-}"; }
    install_waker() { launchd_wake; }
    remove_waker() { rm -f "$launchd_folder/${waker%.service}.plist"; }
    forget_earlier_boot
}

# The wall clock may be set; since the boot time is moved with it, the difference stays right.
# sets: now
launchd_clock() {
    now=$(sysctl -n kern.boottime | sed 's/^{ sec = \([0-9]*\).*/\1/')
    now=$(($(date +%s) - now))
}

# sets: word
launchd_word() { word=$(uuidgen | tr 'A-F' 'a-f'); }

# What is in /run may have outlived a reboot here: then the record on the disk tells what was open.
forget_earlier_boot() { [ ! -d $open ] || [ "$(get $open/boot_id)" = "$(boot_id)" ] || rm -rf $open; }

# Let job $1 run the command after the options that systemd-run takes, unless it does already.
# sets: again unit
launchd_start() {
    is_inactive "$1" || return 0
    unit=$1 again=false
    shift
    while :; do
        case $1 in
            -p) case $2 in Restart=always) again=true ;; esac; shift ;;
            --*) ;;
            *) break ;;
        esac
        shift
    done
    launchctl bootout "system/$unit" 2>/dev/null
    launchd_job "$unit" "$again" "$@" >"${open%/*}/$unit.plist" &&
        launchctl bootstrap system "${open%/*}/$unit.plist"
}

# Print job $1, which runs the command after $2; where $2 is true, again until it ends well.
launchd_job() {
    cat <<EOF
<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
<key>Label</key><string>$1</string>
<key>RunAtLoad</key><true/>
<key>AbandonProcessGroup</key><false/>
<key>ExitTimeOut</key><integer>5</integer>
<key>ThrottleInterval</key><integer>1</integer>
<key>KeepAlive</key>$(if [ "$2" = true ]; then echo '<dict><key>SuccessfulExit</key><false/></dict>'; else echo '<false/>'; fi)
<key>StandardOutPath</key><string>${open%/*}/$1.log</string>
<key>StandardErrorPath</key><string>${open%/*}/$1.log</string>
<key>EnvironmentVariables</key><dict><key>PATH</key><string>$PATH</string></dict>
<key>ProgramArguments</key><array>
EOF
    shift 2
    printf '<string>%s</string>\n' "$@"
    echo '</array></dict></plist>'
}

# Tell what job $1 has written after line $2.
# sets: count
launchd_tell() {
    count=${2:-0}
    said_by "$1" | tail -n "+$((count + 1))" | head -n 500 | cut -b -2000 | while IFS= read -r line; do
        count=$((count + 1))
        printf 'line=%s\n' "$line"
        answer cursor $count
    done
}

# Let the next boot go on with the transaction that we are in.
# shellcheck disable=SC2086  # words
launchd_wake() {
    launchd_job "${waker%.service}" true "$program" $called wake "$run" >"$launchd_folder/.fleet" &&
        mv -f "$launchd_folder/.fleet" "$launchd_folder/${waker%.service}.plist"
}
