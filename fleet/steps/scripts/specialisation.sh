# Prints the name of the specialisation of system $1 that $2 is, if it is one.
for place in "$1"/specialisation/*; do
    if [ "$(readlink -f -- "$place")" = "$2" ]; then
        printf '%s\n' "${place##*/}"
        break
    fi
done
