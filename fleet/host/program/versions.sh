# --- other versions of this program ---------------------------------------------------------------------
#
# What a transaction has on record has a format, and a controller's call begins with the number of its own. A record without
# a number is of format 1, whose program is called without one too.
#
# A transaction is ended by the program that its record names, and by no other. Programs of other formats only show it, and
# let that program do what is due: settle it after a reboot, start its keeper, take a word.

# Refuse a call that does not begin with our number.
require_format() {
    case $1 in
        "$format") ;;
        '' | *[!0-9]*) refuse format "this host program speaks format $format, and the call '$1' begins with no number" ;;
        *) refuse format "this host program speaks format $format, and the call is of format $1: call the host program that \
comes with that fleet, or use the fleet that this one comes with" ;;
    esac
}

# Succeed if the transaction that we are in is of our format.
is_of_our_format() { read_line format; [ "${text:-1}" = $format ]; }

# Succeed if the keeper of the transaction that we are in takes its hands off where its word is `replaced`.
knows_word_replaced() { is_of_our_format || [ "${text:-1}" = 1 ]; }

# Let the program that this transaction names do what is due. Where the question $1 with its words is about this run, what that
# program says is the answer, and this one ends.
# sets: number theirs said
hand_over() {
    read_line format
    number=${text:-1}
    read_line program
    theirs=$text
    # shellcheck disable=SC3013  # POSIX since 2024
    [ . -ef $open ] || [ . -ef $record/open ] || return 0       # it has ended meanwhile
    [ -x "$theirs" ] || refuse broken "the host program that began run $run, $theirs of format $number, is not there any \
more, and no other ends it. Where the host is as it should be, remove $open and $record/open"
    [ "$number" != 1 ] || number=
    case ${1-}:${2-} in look:"$run" | watch:"$run" | word:"$run") ;; *) set -- show "$run" ;; esac
    # shellcheck disable=SC2086  # words, or none
    said=$("$theirs" $called $number "$@" </dev/null)
    case $said in
        *state=*) ;;
        *) refuse broken "the host program that began run $run, $theirs, does not answer: $(echo "$said" | tr '\n' ' ')" ;;
    esac
    [ "$1" != show ] || return 0
    printf '%s\n' "$said"
    exit 0
}
