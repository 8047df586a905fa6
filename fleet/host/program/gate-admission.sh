# --- the gate: what may begin ----------------------------------------------------------------------------

# Begin the order that was opened, where the gate lets it. `begin` looks at everything else, as for any other.
begin_admitted() {
    value_of part goal
    [ "$text" != dry-activate ] || refuse gate "the plan is for a dry activation, and for nothing else"
    hold_new
    if [ $admitted = unsigned ]; then require_way_back; else require_said_change; require_contents; remember_plan; fi
    begin <order
    [ "${1-}" != watch ] || watch_begun "$begun"
}

# What `dry_activate` runs is root's and the new system's: so it needs the same signatures, and a plan for just that.
dry_activate() {
    [ $admitted = signed ] || refuse gate "a dry activation runs the new system's own program, and needs a signed plan"
    value_of part goal
    [ "$text" = dry-activate ] || refuse gate "the plan is for the goal '$text', and for no dry activation"
    hold_new
    require_said_change
    require_contents
    remember_plan
    with_timeout 600 "$wanted/bin/switch-to-configuration" dry-activate
}

# Let $wanted be the system of the part, which the garbage collector does not take while we look at it.
# sets: wanted run
hold_new() {
    value_of part new
    wanted=$text
    value_of order run
    run=$text
    { is_store_path "$wanted" && is_word "$run"; } || refuse usage "the order has no run, or no store path of a system"
    ( lock_opening; ! is_given_up "$run" || refuse closed "run $run was given up"; set_root "$run-new" "$wanted" ) >./said
    [ ! -s said ] || { cat said; exit 0; }
    nix-store --check-validity "$wanted" 2>/dev/null || refuse incomplete "$wanted is not complete in this host's store"
}

# Refuse an order without signatures unless it goes back to what ran before, and is no more than that; once.
require_way_back() {
    [ "$wanted" = "$(readlink $roots/previous)" ] ||
        refuse gate "this host wants a signed plan: without one it goes back to the system before, $(readlink $roots/previous), and nowhere else"
    [ "$(gate_of "$wanted")" = "$(gate_of /run/current-system)" ] ||
        refuse gate "$wanted has another gate than the system that runs: to go back there needs a signed plan"
    [ ! -e $record/went-back ] || refuse gate "this host has gone back without a signature already: the next step needs a signed plan"
    value_of part goal
    { [ "$text" = switch ] || [ "$text" = boot ]; } || refuse gate "without a signature this host goes back for good, and not to '$text'"
    grep -qxF 'risk no' part || refuse gate "without a signature this host takes no risk that it does not boot"
}

# Refuse a plan that does not say what becomes of the gate. Where that changes, the new one has to agree as well.
# sets: change
require_said_change() {
    change=keep
    if [ "$(gate_of "$wanted")" != "$(gate_of /run/current-system)" ]; then
        change=change
        [ -d "$wanted/$gate_files" ] || change=off
    fi
    value_of part gate
    [ "${text:-keep}" = $change ] || refuse gate "the plan says 'gate ${text:-keep}', and with $wanted it is 'gate $change': plan again, \
where the system is built by the machine that plans"
    [ $change != change ] || require_signatures "$wanted"
    read_gate /run/current-system
}

# Print a digest of what system $1 has of a gate; - where it has none. fleet/steps/gate.py makes the same.
gate_of() {
    if [ ! -d "$1/$gate_files" ]; then echo -; return; fi
    ( cd "$1/$gate_files" && find -L . -type f | LC_ALL=C sort | xargs -r -d "$newline" sha256sum | sha256sum | cut -d ' ' -f 1 )
}

# Refuse a system that has other contents than the plan says, but for paths that were built here or signed by a key of
# contentKeys: of a package that does not reproduce, this host may have another build. Nix replaces none that it has.
# sets: drv
require_contents() {
    list_contents "$wanted" >./found || refuse broken "nix-store does not tell what $wanted consists of"
    value_of part manifest
    if [ -z "$text" ]; then
        value_of part build
        [ "$text" = target ] || refuse gate "the plan does not say what its system consists of"
        value_of part drv
        drv=$text
        { is_store_path "${drv%.drv}" && nix-store --query --outputs "${drv%.drv}.drv" 2>/dev/null | grep -qxF "$wanted"; } ||
            refuse gate "$wanted is not what the plan's derivation '$drv' makes"
        cut -d ' ' -f 1 found >./doubtful
    elif [ "$(sha256sum <found)" = "$text  -" ]; then
        return
    else
        [ -s manifest ] || refuse contents "some path of $wanted has other contents here than in the plan, whose manifest tells which"
        [ "$(sha256sum <manifest)" = "$text  -" ] || refuse gate "the manifest is not the one that the plan was made with"
        LC_ALL=C comm -13 manifest found | cut -d ' ' -f 1 >./doubtful
        [ -s doubtful ] || refuse gate "$wanted consists of other paths here than in the plan"
    fi
    name_untrusted >./untrusted
    [ ! -s untrusted ] || refuse gate "$(head -n 3 untrusted | paste -sd ';'): push what this host has, or let the one who built it be in \
contentKeys, or delete the path here"
}

# Print the paths of the closure of $1 with their hashes, in order.
list_contents() {
    nix-store --query --requisites "$1" | LC_ALL=C sort >./paths && xargs -r nix-store --query --hash <./paths >./hashes &&
        [ -s ./paths ] && paste -d ' ' ./paths ./hashes
}

# Of the store paths in file doubtful print some that were neither built here nor signed by a key of contentKeys, and who has
# signed them. What Nix cannot tell is not trusted.
# sets: path count
name_untrusted() {
    ! are_trusted <doubtful || return 0
    count=0
    while read -r path; do
        ! echo "$path" | are_trusted || continue
        printf '%s has other contents than the plan says, was not built here, and is signed by %s\n' "$path" "$(signers_of "$path")"
        count=$((count + 1))
        [ $count -lt 3 ] || return 0
    done <doubtful
    [ $count -gt 0 ] || printf 'nix store verify fails: %s\n' "$(tail -n 3 said | tr '\n' ' ')"
}

# Succeed if each store path on stdin was built here, or has a good signature by a key of contentKeys. Nix itself lets a path
# pass whose name comes from its contents: such a one cannot differ.
are_trusted() {
    cat >./asked
    set -- "$(printf '%s\n' "$content_keys" | sed 's/:[^ ]* */|/g; s/[.]/[.]/g; s/|$//')"
    xargs -r nix --extra-experimental-features nix-command store verify --no-contents \
        --option trusted-public-keys "$content_keys" <asked >./said 2>&1 &&
        xargs -r nix --extra-experimental-features nix-command path-info --sigs <asked >./infos 2>./said &&
        ! grep -qvE " ultimate( |\$)${1:+| ($1):}" infos
}

# Print the names of the keys that have signed store path $1.
signers_of() {
    nix --extra-experimental-features nix-command path-info --sigs "$1" 2>/dev/null | grep -oE '[^ :]+:[0-9A-Za-z+/]{86}==' |
        cut -d : -f 1 | sort -u | paste -sd , | grep . || echo nobody
}

# Of the lines `PATH HASH` on stdin tell which this host has with another hash, and whether it takes that.
# sets: path
compare_contents() {
    make_folder
    head -c $most_input | grep -xE '/nix/store/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+ sha256:[0-9a-z]{52}' | LC_ALL=C sort >./manifest
    cut -d ' ' -f 1 manifest | xargs -r nix-store --check-validity --print-invalid 2>/dev/null | LC_ALL=C sort >./invalid
    cut -d ' ' -f 1 manifest | LC_ALL=C comm -23 - invalid >./paths
    xargs -r nix-store --query --hash <paths >./hashes || refuse broken "nix-store does not tell the hashes of its paths"
    paste -d ' ' paths hashes | LC_ALL=C comm -13 manifest - | cut -d ' ' -f 1 >./doubtful
    while read -r path; do answer differs "$path"; done <doubtful
    name_untrusted | while read -r line; do answer untrusted "$line"; done
}

# Keep on the disk when the newest plan was made that was taken: where the clock is wrong, no older one is good again.
remember_plan() {
    [ "$made" -gt "$newest" ] || return 0
    { mkdir -p $record && keep_on_record newest-plan "$made"; } || refuse full "cannot write $record"
}
