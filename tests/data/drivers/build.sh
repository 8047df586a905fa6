# Makes the tree of a system: its scripts, with what they need to know, and its unit.
# shellcheck shell=sh disable=SC2154 # variables of the derivation: system.nix
fill() {
    for script in "$scripts"/*; do
        $busybox sed -e "s|@out@|$out|g; s|@version@|$version|g; s|@busybox@|$busybox|g; s|@user@|$user|g" -e "s|@script@|$script_text|" "$script" >"$1/${script##*/}"
        $busybox chmod 755 "$1/${script##*/}"
    done
}
script_text=$(printf '%s' "$script" | $busybox sed 's/[&|\\]/\\&/g')
case $kind in
    environment)
        $busybox mkdir -p "$out/systemd/system/system-manager.target.wants" "$out/systemd/system/multi-user.target.wants"
        $busybox ln -s "$unit" "$out/systemd/system/web.service"
        $busybox ln -s "$unit" "$out/systemd/system/system-manager.target.wants/web.service"
        printf '[Unit]\nDescription=all of system-manager\n' >"$out/systemd/system/system-manager.target"
        $busybox ln -s ../system-manager.target "$out/systemd/system/multi-user.target.wants/system-manager.target"
        ;;
    system-manager)
        $busybox mkdir -p "$out/bin" "$out/etcFiles" "$out/services"
        printf '{"entries":{},"staticEnv":"%s"}' "$environment" >"$out/etcFiles/etcFiles.json"
        printf '{"web.service":{"masked":false,"storePath":"%s"}}' "$unit" >"$out/services/services.json"
        fill "$out/bin"
        ;;
    generic)
        $busybox mkdir -p "$out/bin" "$out/etc/systemd/system"
        $busybox ln -s "$unit" "$out/etc/systemd/system/web.service"
        fill "$out/bin"
        [ -z "$oneway" ] || $busybox rm "$out/bin/deactivate"
        ;;
    home-manager)
        $busybox mkdir -p "$out/bin" "$out/home-files/.config/test"
        echo "26.11-pre" >"$out/hm-version"
        [ "$user" = bob ] || echo 1 >"$out/gen-version"   # an older one knows no options
        echo "$version" >"$out/home-files/.config/test/version"
        fill "$out"
        $busybox ln -s "$out/activate" "$out/bin/home-manager-generation"
        ;;
esac
