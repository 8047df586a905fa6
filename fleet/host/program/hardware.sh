# --- what the machine under the system is short of, or busy with ----------------------------------------

firmware_node=/sys/devices/platform/soc/soc:firmware    # of a Raspberry Pi
sensors=/sys/class/hwmon
gpus="/dev/nvidia-uvm /dev/kfd"         # what computes on a GPU has one of these open: CUDA's, ROCm's

# Tell what of this a deployment should know. Most machines answer nothing, and start no program for it.
# sets: text sensor file files device
answer_hardware() {
    [ -w / ] || [ -w /etc ] || answer read_only /
    [ -w /nix/var/nix ] || answer read_only /nix
    case $loader in
        systemd_boot) find_boot_files loader/loader.conf ;;
        extlinux) find_boot_files extlinux/extlinux.conf ;;
        grub) find_boot_files grub/grub.cfg ;;
        raspberry_pi) files="$firmware/$(raspberry_pi_prefix)/cmdline.txt" ;;
        *) files= ;;
    esac
    for file in $files; do [ -w "$file" ] || [ ! -e "$file" ] || answer boot_read_only "$file"; done
    read_line $firmware_node/get_throttled
    if [ -z "$text" ] && command -v vcgencmd >/dev/null && ask_tool 5 vcgencmd get_throttled; then text=$said; fi
    [ -z "$text" ] || answer throttled "$(printf %.100s "${text#*=}")"
    set +f
    for sensor in "$sensors"/hwmon*; do
        read_line "$sensor/name"
        [ "$text" = rpi_volt ] && read_line "$sensor/in0_lcrit_alarm" && [ "$text" = 1 ] && answer undervoltage yes
    done
    set -f
    for device in $gpus; do [ ! -e "$device" ] || break; done
    # shellcheck disable=SC2086  # a list
    [ ! -e "$device" ] || holders_of $gpus | while read -r job; do answer gpu_job "$job"; done
}

# Print the jobs that compute on a GPU, `PID, NAME`. What nvidia-smi cannot say of some cards, their open files do, and so do
# they where it says anything else, such as a warning.
gpu_jobs() {
    # shellcheck disable=SC2086  # a list
    set -- $gpus
    if ask_tool 20 nvidia-smi --query-compute-apps=pid,process_name --format=csv,noheader &&
        ! printf '%s\n' "$said" | grep -qvE '^([0-9]+, [^[].*)?$'; then
        shift
        [ -z "$said" ] || printf '%s\n' "$said"
    fi
    holders_of "$@"
}

# Let $said be what a tool says, which is given $1 seconds. Fail where it fails, or says more than any should. One that waits
# for a card which is lost may not end for any signal: nobody waits for it, and it has no lock of ours.
# sets: said
ask_tool() {
    said=$({ { with_timeout "$@" 2>/dev/null; printf '\nended %s\n' $?; } 9>&- & } | timeout $(($1 + 6)) head -c 65536)
    case $said in *"${newline}ended 0") ;; *) return 1 ;; esac
    said=${said%"${newline}ended 0"}
    said=${said%"$newline"}
}

# Print the processes that have one of these devices open, `PID, NAME`, but not those that only watch over it.
# sets: device
holders_of() {
    for device; do
        shift
        [ ! -e "$device" ] || set -- "$@" -o -lname "$device"
    done
    [ $# -gt 0 ] || return 0
    set +f
    find /proc/[0-9]*/fd -maxdepth 1 '(' -false "$@" ')' -printf '%h\n' 2>/dev/null | sort -u | while read -r place; do
        place=${place%/fd}
        read_line "$place/comm"
        case $text in '' | nvidia-persiste* | nv-hostengine) ;; *) echo "${place#/proc/}, $text" ;; esac
    done
    set -f
}
