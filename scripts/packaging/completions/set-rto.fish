# fish completion for set-rto

set -l verbs install remove status advise diff check try rules

complete -c set-rto -f
complete -c set-rto -s h -l help -d 'display usage information'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -l version -d 'print the version, the digest of the rules, and the version of libbpf'

complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a install -d 'attach the rules, or replace them in place without a gap'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a remove -d 'detach the rules and remove the pin'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a status -d 'show the attached rules, their connections, and other programs on the hook'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a advise -d 'print what the evidence says about the timer of each rule'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a diff -d 'compare the rules inside this binary with the attached ones'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a check -d 'show whether this kernel can run these rules, and what is missing'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a try -d 'open one connection and print what the kernel gave it'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a rules -d 'print the rules inside this binary'

complete -c set-rto -n '__fish_seen_subcommand_from install' -l cgroup -x -a '(__fish_complete_directories)' -d 'the cgroup whose sockets the rules apply to'
complete -c set-rto -n '__fish_seen_subcommand_from install remove status advise diff try' -l pin -x -a '(__fish_complete_directories)' -d 'where in the bpffs it is pinned'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l partial -d 'leave out the settings that this kernel does not support'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l interface-method -x -a 'route address' -d 'how the interface of a connection is found'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l forget -d 'forget what learned timers know of hosts'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l dry-run -d 'print what would be done'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l quiet -d 'print nothing but errors'
complete -c set-rto -n '__fish_seen_subcommand_from remove' -l own -d 'leave the rules of another binary attached'
complete -c set-rto -n '__fish_seen_subcommand_from status advise check rules' -l json -d 'print one JSON object'
complete -c set-rto -n '__fish_seen_subcommand_from status' -l all -d 'list rules without a connection, too'
complete -c set-rto -n '__fish_seen_subcommand_from status' -l hosts -x -d 'how many hosts are shown of each rule'
complete -c set-rto -n '__fish_seen_subcommand_from status' -l metrics -d 'print the OpenMetrics text format'
complete -c set-rto -n '__fish_seen_subcommand_from status' -l watch -x -d 'print it again every so many seconds'
complete -c set-rto -n '__fish_seen_subcommand_from rules' -l source -d 'print the rules file byte for byte'
