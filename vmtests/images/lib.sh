# For the scripts that run in a guest: what they find out goes to the console, a line each, and is counted.

ran=0

say() {
	printf '\nimage: %s\n' "$*" >/dev/console
}

# check NAME COMMAND...: the command succeeds.
check() {
	name=$1
	shift
	ran=$((ran + 1))
	if said=$("$@" 2>&1); then
		say "ok $name"
	else
		say "FAILED $name: $* said: $(printf '%s' "$said" | tr '\n' '|')"
	fi
}

# is EXPECTED COMMAND...: the command prints just that.
is() {
	expected=$1
	shift
	printed=$("$@" 2>&1)
	[ "$printed" = "$expected" ] || {
		echo "expected $expected, not $printed"
		return 1
	}
}

# exits CODE COMMAND...
exits() {
	expected=$1
	shift
	"$@"
	code=$?
	[ $code -eq "$expected" ] || {
		echo "expected exit code $expected, not $code"
		return 1
	}
}

# has TEXT COMMAND...: the command's output has that in it.
has() {
	text=$1
	shift
	printed=$("$@" 2>&1)
	case $printed in
	*"$text"*) ;;
	*)
		echo "no $text in: $printed"
		return 1
		;;
	esac
}

not() {
	! "$@"
}

# A field of `status --json` that is a number or true or false.
field() {
	set-rto status --json | grep -o "\"$1\":[^,}]*" | head -n 1 | cut -d : -f 2
}

finish() {
	say "end $ran"
}
