# Runs the text `script` of a derivation. Its commands are busybox's, the builder.
# shellcheck disable=SC2154 # builder, out and script are the derivation's
for name in chmod ln mkdir; do
    eval "$name() { \"\$builder\" $name \"\$@\"; }"
done
eval "$script"
