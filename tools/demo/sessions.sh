# SPDX-License-Identifier: Apache-2.0
# Sourced after lib.sh by tools/quickstart: what runs for it.  Each has a session of its own and a note in pids/, so that it is
# ended with all that it started, also by who comes after a run that was killed.

start_session() { # name command...; sets started
	local name=$1
	shift
	# The note is there before the command is.
	(note_process "$name" "$BASHPID" && exec setsid "$@") </dev/null &
	started=$!
}
note_process() { echo "$2 $(started_at "$2")" >"$dir/pids/$1"; } # name pid

session_members() { # pid of its first process, and when that was started
	[ "$(started_at "$1")" != "$2" ] || echo "$1"
	pgrep -s "$1"
}
end_session() { # name
	local pid start now tries members signal=TERM
	read -r pid start 2>/dev/null <"$dir/pids/$1" || return 0
	now=$(started_at "$pid") || true
	# If another process has its number, nobody is left of the session: they would have kept the number.
	if [ -z "$now" ] || [ "$now" = "$start" ]; then
		for ((tries = 0; tries < 100; tries++)); do
			members=$(session_members "$pid" "$start") || true
			[ -n "$members" ] || break
			[ $tries -lt 50 ] || signal=KILL
			# shellcheck disable=SC2086
			if [ $tries -eq 0 ] || [ $signal = KILL ]; then kill -$signal $members 2>/dev/null || true; fi
			sleep 0.1
		done
	fi
	rm -f "$dir/pids/$1"
}
