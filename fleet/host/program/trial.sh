# --- a boot on trial -------------------------------------------------------------------------------------
#
# A kernel, an initrd or a systemd is proven by booting it and by nothing else. So that one which does not boot comes back
# with nobody there, the boot default names OLD from the first step to the commit:
#
#   1 arming     The unit $waker in /etc and the record on the disk survive all that follows, from here to the end: the unit
#                is there before the record and goes after it.
#   2 arming     NEW becomes a generation of the profile, and OLD's own boot loader script writes the entries of all
#                generations: NEW's is among them, the default is OLD's. The profile goes back to OLD.
#   3 arming     The trial's entry is a copy of NEW's by which a panic or a broken stage 1 resets the machine. Last of all
#                the boot loader is told to boot it once. Whatever comes of that, the boot after it is OLD's.
#   4 switched   In NEW, systemd starts $waker, which opens the record again and starts the keeper. From here on all is
#                as after a live switch, but that the deadline is the order's `boot` seconds from then, that a unit of
#                NEW that fails is enough, and that going back is a reboot.
#   5 reverting  In OLD, $waker opens the record too: what is left of the trial is removed, and the run has ended.
#
# Time is /proc/uptime here too: no clock matters. Not caught is what stands still before $waker runs, without a panic:
# that needs a hardware watchdog, or somebody at the power switch; the default is OLD.
#
# Without a boot loader that can boot an entry once, the order may take the risk: then step 3 makes NEW the default, and a
# NEW that does not come up as far as $waker stays.

waker=fleet-wake.service
attached=/etc/systemd/system.attached   # units that no configuration has: systemd reads it, and NixOS leaves it alone

# Succeed if a reboot leads back to OLD, whatever comes of NEW, or if somebody takes the risk.
# sets: why
can_go_back_by_reboot() {
    why="only NixOS is proven by a reboot"
    [ $driver = nixos ] || return
    why="$new runs already"
    [ "$new" != "$old" ] || return
    read_boot
    why="the boot default is '$default' and not what runs, $old: a boot that fails would not lead back there${doubt:+; $doubt}"
    [ "$default" = "$old" ] || return
    why="only one of both has its /etc in an overlay, which hides what the other has in it: nothing would go back"
    [ "$(stat -c . "$old/etc-metadata-image" "$new/etc-metadata-image" 2>/dev/null)" != . ] || return
    why="/etc cannot be written, or does not survive a reboot: nothing would go back"
    openly mkdir -p $attached 2>/dev/null || return
    case $(stat -f -c %T $attached; rmdir $attached 2>/dev/null) in tmpfs | ramfs) return 1 ;; esac
    ! boots_once || return 0
    why="the boot loader cannot boot an entry once: $why"
    [ -n "$(get risk)" ]
}

# sets: next how
arming() {
    install_waker || { blame silent "systemd does not read $attached"; return; }
    write_record || { blame silent "cannot write $record"; return; }
    [ -e started ] || prepare_start || return
    put_durably armed || { blame silent "cannot write $record"; return; }
    write_secrets boot || { blame silent "$why"; return; }
    ensure_boot_space || { blame silent "$why"; return; }
    set_profile "$new" || { blame silent "cannot set $profile"; return; }
    sync -f $profiles
    if boots_once; then how=once; elif [ -n "$(get risk)" ]; then how=default; else blame silent "$why"; return; fi
    if [ $how = once ]; then arm_trial || return; fi
    if past_deadline || told_to_stop; then blame silent "did not start in time"; return; fi
    unchanged_by_others || return
    put_durably rebooting $how || { blame silent "cannot write $record"; return; }
    choose_$how || return
    next=rebooting
}

# Give NEW an entry of the boot loader that can be booted once, beside the default, which stays OLD's.
# sets: status
arm_trial() {
    write_boot_loader "$old"
    status=$?
    reset_profile_link
    sync_boot
    [ $status -eq 0 ] || { blame silent "boot loader failed with exit status $status"; return 1; }
    "$(boot_loader)_add_trial" || { blame silent "the boot loader wrote no entry for the new system"; return 1; }
    boots_as_before || { blame silent "the boot default is '$(boot_default)', not the old system"; return 1; }
}

# Let the next boot be the trial's, and the one after it the default's.
choose_once() {
    "$(boot_loader)_choose_trial" || { blame silent "the boot loader does not take an entry for one boot"; return 1; }
}

# Make NEW the default: somebody has accepted the risk.
# sets: status
choose_default() {
    write_boot_loader "$new"
    status=$?
    sync_boot
    [ $status -eq 0 ] || { blame found "boot loader failed with exit status $status"; return 1; }
    verify_boot
}

# Let each boot call `wake` until the transaction has ended, whatever boots. The unit is complete before it has its name: a boot may come at any moment.
# sets: known
install_waker() {
    openly mkdir -p $attached/sysinit.target.wants && openly tee $attached/.$waker >/dev/null <<EOF || return
[Unit]
Description=fleet: goes on with run $run after the reboot
DefaultDependencies=no
After=local-fs.target
# A boot that fails may isolate emergency.target, which ends what has not started.
IgnoreOnIsolate=yes
StartLimitIntervalSec=0

[Service]
Type=oneshot
Environment=PATH=$(get path)
ExecStart=$program ${called:+$called }wake $run
Restart=on-failure
RestartSec=1
EOF
    sync -f $attached && mv -f $attached/.$waker $attached/$waker &&
        ln -sfn ../$waker $attached/sysinit.target.wants/$waker && sync -f $attached &&
        retry systemctl daemon-reload || return
    known=$(systemctl show --property=FragmentPath --property=LoadState --property=WantedBy $waker | sort | tr '\n' ' ')
    [ "$known" = "FragmentPath=$attached/$waker LoadState=loaded WantedBy=sysinit.target " ]
}

rebooting() {
    if told_to_stop; then return; fi
    if raspberry_pi_has_trial; then set -- --reboot-argument='0 tryboot'; fi
    reboot_host "$@"
    blame silent "the host does not reboot"
}

# Reboot. This returns only if that fails: systemd ends the keeper last of all.
reboot_host() {
    sync
    with_timeout 60 systemctl reboot "$@"
    wait_for 300 false
    with_timeout 60 systemctl reboot --force "$@"
    wait_for 120 false
}

# Go on with run $1 in whatever has booted. Systemd tries again if this fails.
wake() {
    ( recover )
    if [ ! -d $record/open ]; then unroot_run "$1"; remove_waker; return; fi
    [ -d $open ] && ! is_inactive "fleet-keep-$(cat $open/run)"
}

is_on_trial() { [ -e rebooting ] && [ ! -e blame ] && booted_new; }
booted_new() { [ -e armed ] && [ "$new" != "$old" ] && [ "$(readlink -f /run/booted-system)" = "$new" ]; }

# Succeed if the boot of NEW is through, and not well.
# sets: bad
trial_has_failed() {
    ! lacks_secrets || return
    case $(systemctl is-system-running 2>/dev/null) in
        running | degraded) bad=$(judge_units | sed -n 's/^bad=//p' | head -n 1) ;;
        maintenance) bad="came up in emergency mode" ;;
        *) bad= ;;
    esac
    [ -z "$bad" ] || blame found "$bad"
    [ -n "$bad" ]
}

# Succeed if the boot default was seen to be OLD, and we have not set it since.
reboot_leads_back() { [ "$(get rebooting)" = once ] && [ ! -e commit ]; }

# Boot OLD, from one boot only: a host that comes up with NEW again needs a person, not a loop.
reboot_to_old() {
    [ "$(get returning || boot_id)" = "$(boot_id)" ] || return
    reboot_leads_back || [ "$(boot_default)" = "$old" ] || return       # NEW may not even see /boot, or write to /nix
    cp blame reason $record/open/ && put_durably returning "$(boot_id)" || reboot_leads_back || return
    reboot_host
}

# Boot OLD since it could not be brought back while NEW ran, where people want that.
try_last_resort() {
    [ "$(get last_resort)" = reboot ] && [ ! -e rebooted ] && unchanged_by_others && boots_as_before || return
    install_waker && put_durably resort && reboot_to_old
    return 1
}

remove_trial() { [ ! -e armed ] || { systemd_boot_remove_trial; grub_remove_trial; raspberry_pi_remove_trial; }; }

remove_waker() {
    [ -e $attached/$waker ] || return
    rm -f $attached/$waker $attached/sysinit.target.wants/$waker
    rmdir $attached/sysinit.target.wants $attached 2>/dev/null
    retry systemctl daemon-reload
}
