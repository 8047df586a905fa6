# --- the order ------------------------------------------------------------------------------------------
#
# Lines of printable ASCII: a key, a space, and a value, which is `-` where there is none. Titles part them:
#
#   fleet-order v1      who asks and what for: each of $order_keys
#   fleet-part v1       the host's part of a plan, word for word (fleet/plans/part.py): each of $part_keys, maybe
#                       $optional_keys, and any number of $list_keys. What only the controller needs passes through, and is in the digest like the rest
#   end
#
# A switch by somebody else has one title in place of these two, `fleet-guard v1`, and some of $guard_keys, `ignore` and `snippet`.

order_keys="run from by intent source plan ledger"
part_keys="host new drv build manifest expected link serial action goal activation confirm boot settle watch checks risk \
force retry last_resort offline substitute copy_with reboot forecast expires"
optional_keys="gate"
list_keys="check hook secret ignore snippet window"
guard_keys="run from by new expected goal activation confirm retry guarded threshold ask"

# Write the order to the draft, and be in there afterwards.
# sets: run known seen wanted line key value digest planned_serial planned_link longest settles why
write_draft() {
    run=                                # `decline` removes its root, and no other run's
    [ ! -e $draft ] || rm -rf $draft
    { mkdir $draft && cd $draft; } || refuse full "cannot write $draft"
    ! printf '%s\n' "$order" | LC_ALL=C grep -q '[^ -~]' || decline usage "the order is not all printable ASCII"
    case $order in fleet-*) ;; *) decline format "the order has no title: this program reads 'fleet-order v1'" ;; esac
    planned_serial=- planned_link=-
    longest=0 settles=0
    known='' seen='' wanted="$order_keys $part_keys"
    while IFS= read -r line; do
        key=${line%% *} value=${line#* }
        case $key in
            fleet-*) expect_section ;;
            *) is_among "$known" || decline usage "the order has a line that this program does not know: $line" ;;
        esac
        is_among "$list_keys" || ! is_among "$seen" || decline usage "the order has '$key' twice"
        seen="$seen $key"
        [ "$value" = - ] || keep_value || decline full "cannot write $draft"
    done <<EOF
${order%"${newline}end"}
EOF
    for key in $wanted; do is_among "$seen" || decline usage "the order has no line '$key'"; done
    run=$(get run)
    is_word "$run" || { why="'$run' is no run" run=; decline usage "$why"; }
    case $wanted in *host*) ;; *) return 0 ;; esac
    digest=$(printf '%s\n' "$order" | sed -n '/^fleet-part /,${$!p;}' | sha256sum)
    { put_new part "${digest%% *}" && limit_trial; } || decline full "cannot write $draft"
}

# Let `trial` be the seconds for which NEW may be on trial at most, however often somebody looks: five times what a proof of
# this part takes, since hosts are slow and controllers are lost. Whoever goes back without a signature has said so himself.
# sets: longest text
limit_trial() {
    read_line confirm
    ! is_count "$text" || longest=$((longest + 3 * text))
    read_line boot
    is_count "$text" || text=0
    longest=$((5 * (longest + settles) + text))
    [ "$admitted" != unsigned ] || [ $longest -lt 21600 ] || longest=21600
    put_new trial $longest
}

# Let $longest be $1, a number of seconds with or without a fraction and unit, if that is longer.
# sets: longest
lengthen() { if is_count "${1%%[!0-9]*}" && [ "${1%%[!0-9]*}" -gt "$longest" ]; then longest=${1%%[!0-9]*}; fi; }

# Succeed if $key is one of the words of $1.
is_among() { case " $1 " in *" $key "*) ;; *) false ;; esac; }

# Expect what comes after the title $line.
# sets: known wanted
expect_section() {
    case $line in
        'fleet-order v1') known=$order_keys ;;
        'fleet-part v1') known="$part_keys $optional_keys $list_keys" ;;
        'fleet-guard v1') known="$guard_keys ignore snippet" wanted="run new goal activation confirm guarded" ;;
        *) decline format "the order says '$line', and this program reads 'fleet-order v1' and 'fleet-part v1': call the \
host program that comes with that fleet, or use the fleet that this one comes with" ;;
    esac
}

# Keep what the transaction needs of a line.
# sets: planned_serial planned_link settles
keep_value() {
    case $key:$value in risk:no | force:no | retry:no) return 0 ;; esac
    case $key in
        by) put_new who "$value" ;;
        run | from | intent | source | plan | ledger | new | expected | goal | activation | confirm | boot) put_new "$key" "$value" ;;
        risk | force | retry | last_resort | guarded | threshold | ask) put_new "$key" "$value" ;;
        watch) lengthen "$value" ;;
        check) case $value in *'"within":"'*) lengthen "${value#*'"within":"'}" ;; *) lengthen 60 ;; esac ;;
        settle) ! is_count "${value%%.*}" || settles=${value%%.*} ;;
        serial) planned_serial=$value ;;
        link) planned_link=$value ;;
        ignore) printf '%s\n' "$value" | sed 's/\\/&&/g' >>ignore ;;    # names have escapes, the patterns none
        secret) printf '%s\n' "$value" >>secret ;;
        snippet) printf '%s\n' "$value" >>snippet ;;
    esac
}
