# --- what units call ---

# The rules stand before the link does. Whatever fails leaves nothing: the unit calls `teardown` then.
setup() {
    mkdir -p "$run" /run/fleet-sandbox-proofs
    chmod 700 /run/fleet-sandbox-proofs
    chmod 755 "$runs" "$run"
    if [ "$backend" = systemd ]; then folders; fi
    write_rules
    if [ "$backend" = systemd ]; then link; fi
    if has_egress; then ( flock 9; forward ) 9>/run/fleet-sandbox-proofs/.forward; fi
    names
    rules >"$run/rules"
    facts >"$run/facts"
}

# Its user owns its folder, unless that is somebody else's, and has a name in there.
folders() {
    mkdir -p "$run/root" "$run/etc" "$work"
    [ "$keeps" = yes ] || mount -t tmpfs -o "size=$size,nosuid,nodev,mode=0700" fleet-sandbox "$work"
    printf 'hosts: files\npasswd: files\ngroup: files\n' >"$run/etc/nsswitch.conf"
    printf '# Names are in /etc/hosts. Nobody answers to questions.\n' >"$run/etc/resolv.conf"
    : >"$run/etc/hosts"
    if [ "$nix" = yes ]; then
        mkdir -p "$run/etc/nix" # without access-tokens and the like
        sed -nE '/^(experimental-features|substituters|trusted-public-keys) /p' /etc/nix/nix.conf >"$run/etc/nix/nix.conf" || :
    fi
    who=$(systemctl show -P UID "fleet-sandbox-$name-setup.service") group=$(systemctl show -P GID "fleet-sandbox-$name-setup.service")
    case $who in '' | 0 | *[!0-9]*) die 'the sandbox would run as root' ;; esac
    case $work in "$run"/* | /var/lib/fleet-sandboxes/*) chown "$who:$group" "$work" ;; esac
    printf 'root:x:0:0::/:/bin/false\nagent:x:%s:%s::/work:/bin/sh\n' "$who" "$group" >"$run/etc/passwd"
    printf 'root:x:0:\nagent:x:%s:\n' "$group" >"$run/etc/group"
}

link() {
    ip netns add "$space"
    ip -n "$space" link set lo up
    has_egress || return 0
    ip link add "$tap" type veth peer name eth0 address "$mac" netns "$space"
    address_of_host
    ip -n "$space" address add "$address/31" dev eth0
    ip -n "$space" link set eth0 up
    ip -n "$space" route add default via "$host"
}

address_of_host() {
    ip address replace "$host/31" dev "$tap"
    ip link set "$tap" up
}

# What comes from the sandbox reaches what is allowed, by TCP, and nothing else: not this host, no DNS, no other sandbox. What the
# host itself began, as a login to a microVM, is answered.
write_rules() {
    {
        printf 'table inet %s\ndelete table inet %s\ntable inet %s {\n' "$table" "$table" "$table"
        printf 'set allowed { type ipv4_addr . inet_service; flags interval; auto-merge;'
        printf '%s' "$allowed" | awk '{ printf "%s%s . %s", (NR > 1 ? ", " : " elements = { "), $1, $2 } END { if (NR) printf " };" }'
        printf ' }\nset named { type ipv4_addr . inet_service; flags timeout; timeout 1h; }\n'
        printf 'chain input { type filter hook input priority -10; policy accept;\n'
        printf 'iifname "%s" ct state established ct direction reply accept\niifname "%s" drop\n}\n' "$tap" "$tap"
        printf 'chain forward { type filter hook forward priority -10; policy accept;\n'
        printf 'iifname "%s" ip saddr != %s drop\niifname "%s" ip6 version 6 drop\n' "$tap" "$address" "$tap"
        for set in allowed named; do printf 'iifname "%s" meta l4proto tcp ip daddr . tcp dport @%s accept\n' "$tap" "$set"; done
        printf 'iifname "%s" drop\noifname "%s" ct state established,related accept\noifname "%s" drop\n}\n' "$tap" "$tap" "$tap"
        printf 'chain source { type nat hook postrouting priority 100; policy accept;\nip saddr %s oifname != "%s" masquerade\n}\n}\n' \
            "$address" "$tap"
    } | nft -f -
}

# Print the rules as they stand, without what changes by itself: the addresses of names.
rules() {
    nft -s -t list table inet "$table"
    nft -s list set inet "$table" allowed
}

# The host passes packets on. Where it did not before, it does for sandboxes alone, and as long as there is one that needs it.
forward() {
    : >"$run/forwards"
    [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ] || return 0
    nft -f - <<'END'
table inet fleet_forward
delete table inet fleet_forward
table inet fleet_forward {
    chain forward {
        type filter hook forward priority -20; policy drop;
        iifname "fs-*" accept
        oifname "fs-*" ct state established,related accept
    }
}
END
    echo 1 >/proc/sys/net/ipv4/ip_forward
}

# Look the allowed names up, for the rules and for /etc/hosts of the sandbox. An address of a private network that a name leads to is
# left out: who may go there has it declared by its address.
names() {
    [ -n "$named" ] || { write_hosts; return 0; }
    found=$(printf '%s' "$named" | while read -r what port; do
        timeout 10 getent ahostsv4 "$what" | awk -v port="$port" -v name="$what" '!seen[$1]++ { print $1, port, name }'
    done | while read -r where port what; do
        if is_public "$where" || is_allowed "$where" "$port"; then printf '%s %s %s\n' "$where" "$port" "$what"; fi
    done)
    if [ -n "$found" ]; then
        printf '%s\n' "$found" | awk -v table="$table" '
            { it = "element inet " table " named { " $1 " . " $2 " "; print "add " it "}\ndelete " it "}\nadd " it "timeout 1h }" }' | nft -f -
    fi
    write_hosts
}

is_public() {
    case $1 in
        0.* | 10.* | 127.* | 169.254.* | 192.168.* | 192.0.0.* | 198.18.* | 198.19.* | 22[4-9].* | 2[3-5][0-9].*) return 1 ;;
        172.1[6-9].* | 172.2[0-9].* | 172.3[01].*) return 1 ;;
        100.6[4-9].* | 100.[7-9][0-9].* | 100.1[01][0-9].* | 100.12[0-7].*) return 1 ;;
    esac
}

is_allowed() { nft get element inet "$table" allowed "{ $1 . $2 }" >/dev/null 2>&1; }

write_hosts() {
    [ "$backend" = systemd ] || return 0
    {
        printf '127.0.0.1 localhost\n'
        [ -z "${found-}" ] || printf '%s\n' "$found" | awk '!seen[$1 $3]++ { print $1, $3 }'
    } >"$run/etc/hosts.new"
    cat "$run/etc/hosts.new" >"$run/etc/hosts" # the file itself is mounted
    rm "$run/etc/hosts.new"
}

# Tell what the probe has to know of the host to see whether it is outside: nothing of it is secret.
facts() {
    for kind in net mnt pid ipc uts; do printf 'ns %s\n' "$(stat -L -c "$kind %i" "/proc/1/ns/$kind")"; done
    for folder in /dev/shm /dev/mqueue /tmp /var/tmp; do
        [ ! -d "$folder" ] || printf 'shared %s %s\n' "$folder" "$(stat -L -c %d:%i "$folder")"
    done
    printf 'root %s\n' "$(stat -L -c %d:%i /proc/1/root/)"
    printf 'name %s\nnix %s\naddress %s\n' "$name" "$nix" "$address"
    if has_egress; then printf 'egress yes\n'; fi
    printf 'hostname %s\n' "$(cat /proc/sys/kernel/hostname)"
    cut -d : -f 6 /etc/passwd | sort -u | grep -E '^/(home|root|Users)(/|$)' | sed 's/^/home /' || :
    ip -4 -o address show scope global | awk -v tap="$tap" '$2 != tap { sub("/.*", "", $4); print "here", $4 }'
    gateways | sed 's/^/gateway /'
    for gateway in $(gateways); do
        for port in 22 53 80 443; do if is_allowed "$gateway" "$port"; then printf 'reaches %s %s\n' "$gateway" "$port"; fi; done
    done
    awk '$4 == "0A" { split($2, part, ":"); print "port", part[2] }' /proc/net/tcp /proc/net/tcp6 | sort -u | head -n 8
    printf '%s' "$allowed$named" | sed '/./s/^/reaches /'
    printf '%s' "$opened" | sed '/./s/^/opens /'
    printf '%s' "$credentials" | sed '/./s/^/credential /'
    [ ! -r "$declared/$name.store" ] || sed 's/^/store /' "$declared/$name.store"
}

gateways() { ip -4 route show default | awk '{ for (i = 1; i < NF; i++) if ($i == "via") print $(i + 1) }'; }

teardown() {
    ip netns delete "$space" 2>/dev/null || :
    ip link delete "$tap" 2>/dev/null || :
    nft delete table inet "$table" 2>/dev/null || :
    if [ "$backend" = systemd ] && [ "$keeps" = no ] && mountpoint -q "$work"; then umount -l "$work"; fi
    rm -rf --one-file-system "$run"
    (
        flock 9
        [ -z "$(find "$runs" -mindepth 2 -maxdepth 2 -name forwards)" ] && nft delete table inet fleet_forward 2>/dev/null || exit 0
        echo 0 >/proc/sys/net/ipv4/ip_forward
    ) 9>/run/fleet-sandbox-proofs/.forward
}
