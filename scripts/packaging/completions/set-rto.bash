# bash completion for set-rto                                                                    -*- shell-script -*-

_set_rto()
{
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= options=
    COMPREPLY=()
    ((COMP_CWORD > 1)) && verb=${COMP_WORDS[1]}
    case $before in
        --cgroup | --pin)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            return
            ;;
        --interface-method)
            mapfile -t COMPREPLY < <(compgen -W 'route address' -- "$word")
            return
            ;;
    esac
    case $verb in
        '') options='install remove status advise diff check try rules --version --help' ;;
        install) options='--cgroup --pin --partial --interface-method --forget --dry-run --quiet --help' ;;
        remove) options='--pin --own --help' ;;
        diff | try) options='--pin --help' ;;
        status) options='--pin --all --hosts --json --metrics --watch --help' ;;
        advise) options='--pin --json --help' ;;
        check) options='--json --help' ;;
        rules) options='--json --source --help' ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}
complete -F _set_rto set-rto
