# Lays out $out: each line of the layout is `text|script|link|copy PATH`, and item N holds its text, target or source.
# shellcheck disable=SC2154 # out, busybox, layoutPath and itemNPath are the derivation's
"$busybox" mkdir -p "$out"
n=0
while read -r kind path; do
    eval "item=\$item${n}Path"
    case $path in */*) "$busybox" mkdir -p "$out/${path%/*}" ;; esac
    case $kind in
        text) "$busybox" cp "$item" "$out/$path" ;;
        script)
            "$busybox" cp "$item" "$out/$path"
            "$busybox" chmod 755 "$out/$path"
            ;;
        copy) "$busybox" cp "$("$busybox" cat "$item")" "$out/$path" ;;
        link) "$busybox" ln -s "$("$busybox" cat "$item")" "$out/$path" ;;
    esac
    n=$((n + 1))
done <"$layoutPath"
