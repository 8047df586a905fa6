# --- the gate: how it is, and what would get round it -----------------------------------------------------

# Tell how this gate is.
# sets: line
report_gate() {
    answer protocol "$spoken"
    answer digest "$(gate_of /run/current-system)"
    for line in "program $program" "fleet $own_fleet" "host $own_name" "user $login" "required $required" "touch $touch"; do
        answer "${line%% *}" "${line#* }"
    done
    while read -r line; do
        set -- "${line%% *}" "$(printf '%s\n' "${line#* * }" | ssh-keygen -l -f - | cut -d ' ' -f 2)"
        case $line in *,fleet-approval@*) answer signer "$1 approves $2" ;; *) answer signer "$1 plans $2" ;; esac
    done <$gate/allowed_signers
    set +f
    for line in "$gate"/checks/*; do [ ! -e "$line" ] || answer check "${line##*/}"; done
    set -f
    ask_sshd -C "user=$login,host=localhost,addr=127.0.0.1"
    of_sshd permitopen none
    for line in $values; do answer permit "$line"; done
    # shellcheck disable=SC2046  # paths have no spaces
    for line in $(plain_files $(keys_of "$login")); do
        ssh-keygen -l -f "$line" 2>/dev/null | while read -r _ line _; do answer key "$line"; done
    done
    ways_round
}

# sets: says
ask_sshd() { says=$(with_timeout 10 sshd -T "$@" 2>/dev/null | sed 's/^/sshd /'); }

# Tell who becomes root here besides: by a key of an account that is root or that sudo makes root, or through Nix.
# sets: name line
ways_round() {
    ask_sshd
    of_sshd passwordauthentication yes
    [ "$values" = no ] || answer round "sshd takes passwords"
    of_sshd permitrootlogin yes
    [ "$values" = no ] || ! has_keys root || answer round "root logs in by keys (PermitRootLogin $values)"
    while IFS=: read -r name _ line _ _ _ _; do
        [ "$name" != root ] || continue
        [ "$line" != 0 ] || answer round "the account $name is root"
        [ "$name" = "$login" ] || has_keys "$name" || continue
        line=$(with_timeout 10 sudo -l -U "$name" 2>/dev/null | sed -n 's/^ *(/(/p' | grep -vxF "(root) NOPASSWD: $entry")
        [ -z "$line" ] || answer round "$name has keys, and sudo lets $name run: $(printf '%s\n' "$line" | head -n 3 | paste -sd ';')"
    done </etc/passwd
    for name in $(as_login sh -c "$(script nix-configuration)" 2>/dev/null | sed -n 's/^trusted-users = //p'); do
        [ "$name" = root ] || answer round "Nix trusts $name: whoever that is puts anything into the store"
    done
}

# Print the files with keys of account $1.
# sets: accounts
keys_of() {
    accounts=$(grep "^$1:" /etc/passwd)
    key_files
}

# Succeed if account $1 has keys where sshd looks for them.
# shellcheck disable=SC2046  # paths have no spaces
has_keys() { with_timeout 10 grep -qsvE -D skip '^[[:space:]]*(#|$)' $(plain_files $(keys_of "$1")) /dev/null; }
