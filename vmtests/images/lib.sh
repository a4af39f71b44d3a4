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

# Milliseconds until the SYN to this silent address and port is retransmitted, by ss.
timer() {
	bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null &
	for try in $(seq 100); do
		line=$(ss -tinH state syn-sent dst "$1" dport = ":$2" | tr '\n' ' ')
		[ -n "$line" ] && break
		sleep 0.1
	done
	kill $! 2>/dev/null
	wait $! 2>/dev/null
	# Others may be connecting to it as well: the first of them.
	found=${line#* rto:}
	echo "${found%% *}"
}

# The same in hundredths of a second and less what has passed of it already, with nothing but /proc and busybox.
proc_timer() {
	nc -w 3 "$1" "$2" </dev/null >/dev/null 2>&1 &
	usleep 200000
	port=$(printf %04X "$2")
	hex=$(awk -v port=":$port\$" '$4 == "02" && $3 ~ port { split($6, t, ":"); print t[2]; exit }' /proc/net/tcp)
	kill $! 2>/dev/null
	[ -n "$hex" ] && echo $((0x$hex))
}

# between LEAST MOST COMMAND...: the command prints a number from the first to the second.
between() {
	least=$1
	most=$2
	shift 2
	printed=$("$@" 2>&1)
	[ "$printed" -ge "$least" ] && [ "$printed" -le "$most" ] || {
		echo "expected $least to $most, not $printed"
		return 1
	}
}

finish() {
	say "end $ran"
}
