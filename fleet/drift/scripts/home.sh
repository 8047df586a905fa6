# Prints what is in some places below folder $1, as whoever owns it. What is printed is the owner's to say.
#
# Each line of $2 is a place: a path below the folder, which may have wildcards. Its entries are printed, with names that are
# quoted, and nothing below these. A place is reached by no link. Each line of $3 is a file of SSH keys, of which the
# fingerprints are printed.
set -fu
newline='
'
format='entry\t%f\t%u\t%s\t%Y\t%d\t%N\n'
IFS=$newline

# Print each place and each folder on the way to one.
folders() {
    for place in $places; do
        while [ "$place" != "${place%/*}" ]; do
            printf '%s\n' "$place"
            place=${place%/*}
        done
        printf '%s\n' "$place"
    done
}

# Print a regular expression for any of the paths on stdin, whose wildcards stand for parts of one name.
any_of() { sort -u | sed 's/[.+]/\\&/g; s/[*]/[^\/]*/g' | paste -s -d '|'; }

folder=$1 places=$2 files=$3
find -P "$folder/." -regextype posix-extended -xdev -mindepth 1 -type d -regex ".*/\./($(folders | any_of))" -o \
    '(' -regex ".*/\./($(printf '%s\n' "$places" | any_of))/[^/]*" -exec stat --printf "$format" -- '{}' + , \
    -type d -prune ')' 2>/dev/null

for file in $files; do
    [ -f "$file" ] || continue
    stat -L --printf 'keys\t%u\t%Y\t%N\n' -- "$file"
    ssh-keygen -l -f "$file" | sed 's/^/key\t/'
done 2>/dev/null
