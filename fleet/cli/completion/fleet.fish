# Completion of fleet for fish. `fleet completion install fish` writes this file.
#
# fleet answers with a line for each possibility: its type, a comma, the word, and after a tab what it is.
function _fleet_completion
    set -l response (env _FLEET_COMPLETE=fish_complete FLEET_LINE=(commandline -cp) FLEET_PART=(commandline -ct) fleet 2>/dev/null)
    for line in $response
        set -l parts (string split -m 1 "," -- $line)
        switch $parts[1]
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
            case plain
                echo -- $parts[2]
        end
    end
end
complete --no-files --command fleet --arguments "(_fleet_completion)"
