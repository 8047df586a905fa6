# --- models: files beside the systems that name them -----------------------------------------------------
#
# A system names its models in etc/fleet/models.json, and does not refer to them: each has a root of its own, which stays for
# as long as a system that names it does.

model_roots=/nix/var/nix/gcroots/fleet-models

# Print the roots of models that no system names any more where the generations $stay stay: LINK PATH. One that is younger
# than a day may be for a system that is on its way.
forgotten_models() {
    find $model_roots -maxdepth 1 -type l -mmin +1440 -printf '%p %l\n' 2>/dev/null | while read -r link path; do
        named_models | grep -qxF "$path" || echo "$link $path"
    done
}

# Print the models of all systems that stay.
named_models() {
    { printf %s "$stay" | cut -d ' ' -f 2; needed_systems | cut -d ' ' -f 1; } | sort -u | while read -r system; do
        grep -ohE '/nix/store/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+' "$system/etc/fleet/models.json" 2>/dev/null
    done
}
