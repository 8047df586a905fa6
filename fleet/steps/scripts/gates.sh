# Print what should keep a laptop from being changed while nobody has asked for it: lines key=value.
root=${1-}
for supply in "$root"/sys/class/power_supply/*; do
    read -r type 2>/dev/null <"$supply/type" || continue
    case $type in
        Battery) read -r status 2>/dev/null <"$supply/status" && [ "$status" = Discharging ] && echo battery=yes ;;
    esac
done
# https://networkmanager.dev/docs/api/latest/nm-dbus-types.html#NMMetered: 1 yes, 3 yes as far as it is guessed.
case $(busctl get-property org.freedesktop.NetworkManager /org/freedesktop/NetworkManager \
    org.freedesktop.NetworkManager Metered 2>/dev/null) in
    'u 1' | 'u 3') echo metered=yes ;;
esac
loginctl list-sessions --no-legend 2>/dev/null | while read -r session _ user _; do
    found=$(loginctl show-session "$session" --property=Active --property=Remote --property=Class --property=IdleHint)
    case $found in *Active=yes*) ;; *) continue ;; esac
    case $found in *Remote=yes* | *IdleHint=yes*) continue ;; esac
    case $found in *Class=user*) echo "session=$user" ;; esac
done
