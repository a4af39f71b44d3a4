# fish completion for set-rto

set -l verbs install remove status diff check try rules

complete -c set-rto -f
complete -c set-rto -s h -l help -d 'display usage information'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -l version -d 'print version, digest of the rules, version of libbpf'

complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a install -d 'attach, or replace in place without a gap'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a remove -d 'detach and unpin'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a status -d 'is it there, is it this binary\'s, rules, hits, who else is on the hook'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a diff -d 'this binary\'s rules against those that are attached'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a check -d 'can this kernel run these rules, and if not, what is missing'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a try -d 'open one connection and print the timer that the kernel gave it'
complete -c set-rto -n "not __fish_seen_subcommand_from $verbs" -a rules -d 'the rules inside this binary'

complete -c set-rto -n '__fish_seen_subcommand_from install' -l cgroup -x -a '(__fish_complete_directories)' -d 'the cgroup whose sockets are meant'
complete -c set-rto -n '__fish_seen_subcommand_from install remove status diff try' -l pin -x -a '(__fish_complete_directories)' -d 'where on the bpffs it is pinned'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l partial -d 'leave out the settings that this kernel lacks, and say which'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l interface-method -x -a 'route address' -d 'how the interface of a connection is found, route or address'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l dry-run -d 'only say what would be done'
complete -c set-rto -n '__fish_seen_subcommand_from install' -l quiet -d 'print errors only'
complete -c set-rto -n '__fish_seen_subcommand_from status check rules' -l json -d 'one JSON object'
complete -c set-rto -n '__fish_seen_subcommand_from rules' -l source -d 'the rules file that this binary was built from'
