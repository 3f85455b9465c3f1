/* SPDX-License-Identifier: Apache-2.0
 *
 * Stamps, clean, windows, dirty maps; volatile caches, loss of power, restarts of replicas and of the nexus.
 *
 * Replicas (bits of a mask) with one block for each region: what a read returns (data), what is flushed (disk), the stamp, clean, rebuilding; the
 * window, which is in memory: valid, and for each region whether an entry is there (1: of an older epoch, 2: of this one).
 * One nexus at a time, for other models show that a fenced one does no harm.  For the same reason the voters are one register: the committed
 * configuration, and at most one that was proposed since.  An opener takes either; a proposal is committed, stays open, or the nexus
 * dies and the register holds one of those that it may.
 * Each alternative of the big loop is one atomic step, and the nexus may die before each.  One host write is under way at a time, delivered to each
 * replica in a step of its own; copies are made while it is, under the range lock.
 *
 * Ghost, a bit for each value: poss[x] is what a read of x may return, live[x] what it may return after unflushed writes were lost, that is after an
 * opener found no member of S that kept its power.
 *
 * With AFTER_CRASH a nexus has already served and died with a write at the last replica only, which spares an opening.
 *
 * BUG=number breaks one rule:
 */
#define none              0
#define lowered_stamp     11 /* B11: a copy takes the stamp of its source along, lower or not */
#define window_at_start   12 /* B12: the window of a process that just started counts as valid */
#define clean_unflushed   13 /* B13: clean is raised without a flush */
#define window_of_some    1  /* an opener takes the union of the valid windows although another member's is not valid */
#define resynced_old_boot 2  /* RESYNCED reaches a process that started after its session */
#define resynced_early    3  /* RESYNCED does not wait for what was under way before the session of this process */
#define settled_early     4  /* the watermark passes a write that a member has not answered */
#define checkpoint_in_R   5  /* a checkpoint while R is not empty */
#define checkpoint_early  6  /* clean is raised while an older write is under way */
#define clean_unreachable 7  /* clean is raised without the members that cannot be reached */
#define stamp_late        8  /* the data are written before the stamp */
#define power_ignored     9  /* a member of S that lost its power comes back as if nothing were */
#define open_power        10 /* an opener keeps members that lost their power in S beside one that did not */
#define own_stamps        14 /* a rebuild looks at the stamps of its source only */
#define map_without_R     15 /* the exact dirty map begins without what is left in R */
#define map_unanswered    16 /* the exact dirty map begins without the write that the member has not answered */
#define map_after_power   17 /* the exact dirty map is used although the replica lost its power */
#define target_unanswered 18 /* a mirrored write that the target has not answered does not go back into todo */
#define todo_early        19 /* todo is computed while an older write is under way */
#define grow_unflushed    20 /* a target joins without a flush */
#define grow_clean        21 /* a target that joins gets the newest generation as clean, not the smallest of S */
#define open_rebuilding   22 /* an opener counts a replica of S that is being rebuilt; not a bug by itself */
#define window_or_stamps  23 /* todo is map and window although the window is not valid */
#define no_copy           24 /* reads do not wait for R */
#define mark_other        25 /* clean is raised at a target that is being rebuilt */
#define target_without_R  29 /* the map of a target that fails again has its todo, but not what is left in R */
#define session_kept      28 /* a replica that left S still gets the watermark */

/* Not rules but a stricter promise: unflushed writes may be lost only if no member of the S that the opener chose has kept its power. */
#define strict            26 /* an opener that reaches only members that lost their power goes on with them */
#define strict_waits      27 /* it waits for all of S */

#ifndef N
#define N 2 /* replicas */
#endif
#ifndef X
#define X 1 /* regions */
#endif

/* Given to the search in its environment, so that one program serves all runs. */
hidden byte BUG, OPENS, WRITES, CHECKPOINTS;
hidden byte FAULTS; /* an answer that does not come, a restart of a replica, a loss of power (of one or of all), a proposal that stays open */

#define BIT(i) (1 << (i))
#define ALL (BIT(N) - 1)
#define AT(i, x) ((i) * X + (x))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* replicas */
byte data[N * X], disk[N * X], stamp[N * X], entry[N * X], clean[N];
byte rebuilding = 0, valid = 0, lost = 0; /* lost: another power than the one it was counted in with */

/* configurations: S and write generation, committed and proposed (0: none) */
byte S = ALL, wgen = 1, P = 0, P_wgen = 0;

/* the nexus */
bool up = false;
byte session = 0;
byte R = 0;
bool R_by_stamps = false, unsettled = false, ended = false, checkpointing = false;
byte before_session = 0;   /* members whose session began while a command was under way */
byte mark = 0;             /* what clean may be raised to */
byte target = N, todo = 0; /* N: none */
bool joint = false;
byte map[N], map_known = 0;
bool w_active = false, w_target = false;
byte w_x = 0, w_value = 0, w_wgen = 0, w_done = 0;

/* ghosts and bounds */
byte poss[X], live[X];
byte opens = 0, writes = 0, checkpoints = 0, faults = 0;

/* scratch, 0 between steps */
byte i = 0, j = 0, x = 0, s = 0, F = 0, k = 0;

#define NEED (S | P | (joint -> BIT(target) : 0))
#define READABLE(r) (up && (S & session & BIT(r)) != 0 && (P == 0 || (P & BIT(r)) != 0))
#define LOCKED(r) (w_active && w_x == (r))

inline pick(v, bound) {
	v = 0;
	do
	:: v < bound - 1 -> v++
	:: break
	od
}

/* What cannot matter any more is made the same, to have fewer states. */
inline reset() {
	if
	:: mark != 0 ->
		j = 0;
		do
		:: j < N && ((S & BIT(j)) == 0 || clean[j] >= mark) -> j++
		:: j < N && !((S & BIT(j)) == 0 || clean[j] >= mark) -> break
		:: j == N -> mark = 0; break /* who joins later gets the smallest clean of S */
		od
	:: else
	fi;
	if
	:: faults == FAULTS ->
		j = 0;
		do
		:: j < N * X -> disk[j] = data[j]; j++
		:: else -> break
		od
	:: else
	fi;
	i = 0; j = 0; x = 0; s = 0; F = 0; k = 0
}

/* A stamped write at replica r. */
inline put(r, region, value, generation) {
	stamp[AT(r, region)] = MAX(stamp[AT(r, region)], generation);
	entry[AT(r, region)] = 2;
	data[AT(r, region)] = value
}

inline flush(who) {
	j = 0;
	do
	:: j < N * X ->
		if
		:: (who & BIT(j / X)) != 0 -> disk[j] = data[j]
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0
}

inline stop() {
	up = false;
	session = 0; R = 0; R_by_stamps = false; unsettled = false; ended = false; checkpointing = false; before_session = 0; mark = 0;
	target = N; todo = 0; joint = false; map_known = 0;
	w_active = false; w_target = false; w_x = 0; w_value = 0; w_wgen = 0; w_done = 0;
	j = 0;
	do
	:: j < N -> map[j] = 0; j++
	:: else -> break
	od;
	j = 0;
	do
	:: j < N * X ->
		if
		:: entry[j] == 2 -> entry[j] = 1
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0
}

/* The set F is committed: the exact dirty maps of those that were in S or nearly begin. */
inline committed() {
	j = 0;
	do
	:: j < N ->
		if
		:: ((S | P) & ~F & BIT(j)) != 0 ->
			map[j] = 0;
			map_known = map_known & ~BIT(j);
			if
			:: BUG == map_without_R -> map_known = map_known | BIT(j)
			:: BUG != map_without_R && (R == 0 || !R_by_stamps) -> map_known = map_known | BIT(j); map[j] = R
			:: else
			fi;
			if
			:: (map_known & BIT(j)) != 0 && w_active && (w_done & BIT(j)) == 0 && BUG != map_unanswered -> map[j] = map[j] | BIT(w_x)
			:: else
			fi
		:: (F & BIT(j)) != 0 -> map[j] = 0; map_known = map_known & ~BIT(j)
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0;
	S = F;
	/* who comes back is fenced again, and gets no watermark before */
	session = session & (BUG == session_kept -> ALL : F | (target < N -> BIT(target) : 0));
	wgen = MAX(wgen, P_wgen);
	P = 0;
	P_wgen = 0
}

/* What becomes of the proposal F with the write generation k: the first alternative is that it is committed. */
inline propose() {
	if
	:: committed(); wgen = MAX(wgen, k)
	:: P == 0 && faults < FAULTS -> faults++; P = F; P_wgen = k
	:: opens < OPENS -> /* the nexus dies; what the next one finds */
		if
		:: S = F; wgen = MAX(wgen, k)
		:: P != 0 -> S = P; wgen = MAX(wgen, P_wgen)
		:: true
		fi;
		P = 0; P_wgen = 0;
		stop()
	fi
}

/* The write under way is over, with success or with an error. */
inline end_write() {
	if
	:: w_target && target < N && (w_done & BIT(target)) == 0 && BUG != target_unanswered -> todo = todo | BIT(w_x)
	:: else
	fi;
	w_active = false; w_target = false; w_x = 0; w_value = 0; w_wgen = 0; w_done = 0;
	before_session = 0
}

inline restart(r) {
	session = session & ~BIT(r);
	valid = valid & ~BIT(r);
	if
	:: BUG == window_at_start -> valid = valid | BIT(r)
	:: else
	fi;
	x = 0;
	do
	:: x < X -> entry[AT(r, x)] = 0; x++
	:: else -> break
	od;
	x = 0
}

inline lose_power(r) {
	x = 0;
	do
	:: x < X ->
		if
		:: data[AT(r, x)] = disk[AT(r, x)]
		:: disk[AT(r, x)] != data[AT(r, x)] -> disk[AT(r, x)] = data[AT(r, x)]
		fi;
		x++
	:: else -> break
	od;
	x = 0;
	lost = lost | BIT(r);
	restart(r)
}

/* The bits of regions of replica r: of its window, and those stamped above a limit. */
inline add_window(set, r) {
	x = 0;
	do
	:: x < X ->
		if
		:: entry[AT(r, x)] != 0 -> set = set | BIT(x)
		:: else
		fi;
		x++
	:: else -> break
	od;
	x = 0
}
inline add_stamped(set, r, limit) {
	x = 0;
	do
	:: x < X ->
		if
		:: stamp[AT(r, x)] > limit -> set = set | BIT(x)
		:: else
		fi;
		x++
	:: else -> break
	od;
	x = 0
}

/* x is copied from s to i.  Where it is found equal, nothing is written and both get the larger stamp. */
inline copy(from, to) {
	if
	:: data[AT(from, x)] == data[AT(to, x)] && BUG != lowered_stamp ->
		stamp[AT(from, x)] = MAX(stamp[AT(from, x)], stamp[AT(to, x)]);
		stamp[AT(to, x)] = stamp[AT(from, x)]
	:: BUG != lowered_stamp -> put(to, x, data[AT(from, x)], wgen)
	:: BUG == lowered_stamp -> put(to, x, data[AT(from, x)], 0); stamp[AT(to, x)] = stamp[AT(from, x)]
	fi
}

inline open() {
	/* which configuration is found */
	if
	:: P != 0 -> S = P; wgen = MAX(wgen, P_wgen)
	:: true
	fi;
	P = 0; P_wgen = 0;
	/* who answers */
	F = 0;
	i = 0;
	do
	:: i < N ->
		if
		:: F = F | BIT(i)
		:: true
		fi;
		i++
	:: else -> break
	od;
	i = 0;
	if
	:: BUG == open_rebuilding -> k = S & F
	:: else -> k = S & F & ~rebuilding
	fi;
	if
	:: (k & ~lost) != 0 && BUG != open_power -> k = k & ~lost
	:: (k & ~lost) != 0 && BUG == open_power
	:: (k & ~lost) == 0 && k != 0 && BUG == strict_waits && (S & ~F) != 0 -> k = 0
	:: (k & ~lost) == 0 && k != 0 && BUG == strict && (S & ~lost) != 0
	:: (k & ~lost) == 0 && k != 0 && !(BUG == strict_waits && (S & ~F) != 0) && !(BUG == strict && (S & ~lost) != 0) -> /* unflushed writes are lost */
		x = 0;
		do
		:: x < X -> poss[x] = live[x]; x++
		:: else -> break
		od;
		x = 0
	:: k == 0
	fi;
	if
	:: k == 0 -> reset()
	:: k != 0 ->
		opens++;
		up = true;
		session = k;
		S = k;
		lost = lost & ~k;
		R_by_stamps = (k & ~valid) != 0 && BUG != window_of_some;
		i = 0;
		do
		:: i < N ->
			if
			:: (k & BIT(i)) != 0 && R_by_stamps -> add_stamped(R, i, clean[i])
			:: (k & BIT(i)) != 0 && !R_by_stamps && (valid & BIT(i)) != 0 -> add_window(R, i)
			:: else
			fi;
			i++
		:: else -> break
		od;
		wgen++;
		reset()
	fi
}

inline copy_R() {
	pick(x, X);
	pick(s, N);
	if
	:: (R & BIT(x)) != 0 && !LOCKED(x) && READABLE(s) ->
		F = BIT(s);
		i = 0;
		do
		:: i < N ->
			if
			:: i != s && (session & BIT(i)) != 0 && ((NEED & BIT(i)) != 0 || (i == target && (todo & BIT(x)) == 0)) ->
				if
				:: copy(s, i); F = F | BIT(i)
				:: faults < FAULTS -> faults++; session = session & ~BIT(i) /* no answer; had it been written, that were the step before and this one later */
				fi
			:: else
			fi;
			i++
		:: else -> break
		od;
		if
		:: target < N && !joint && (F & BIT(target)) == 0 -> todo = todo | BIT(x)
		:: else
		fi;
		if
		:: (NEED & ~F) == 0 ->
			R = R & ~BIT(x);
			if
			:: R == 0 ->
				unsettled = false; R_by_stamps = false;
				if
				:: !w_active -> before_session = 0
				:: else
				fi
			:: else
			fi
		:: else -> unsettled = true
		fi
	:: else
	fi;
	reset()
}

inline attach() {
	pick(i, N);
	if
	:: ((S | P) & BIT(i)) == 0 && (!w_active || BUG == todo_early) ->
		rebuilding = rebuilding | BIT(i);
		session = session | BIT(i);
		target = i;
		if
		:: (map_known & BIT(i)) != 0 && ((valid & BIT(i)) != 0 || BUG == window_or_stamps || BUG == map_after_power) &&
		   ((lost & BIT(i)) == 0 || BUG == map_after_power) ->
			todo = map[i];
			add_window(todo, i)
		:: else ->
			pick(s, N);
			if
			:: READABLE(s) ->
				add_stamped(todo, s, clean[i]);
				if
				:: BUG != own_stamps -> add_stamped(todo, i, clean[i])
				:: else
				fi
			:: else -> session = session & ~BIT(i); target = N
			fi
		fi;
		if
		:: target < N -> lost = lost & ~BIT(i); map[i] = 0; map_known = map_known & ~BIT(i)
		:: else
		fi
	:: else
	fi;
	reset()
}

/* The target is gone: what it lacks is known. */
inline target_failed() {
	map[target] = (BUG == target_without_R -> todo : todo | R);
	if
	:: w_active && w_target && (w_done & BIT(target)) == 0 -> map[target] = map[target] | BIT(w_x)
	:: else
	fi;
	map_known = map_known | BIT(target);
	target = N; todo = 0; joint = false; w_target = false
}

inline grow() {
	i = target;
	if
	:: BUG != grow_unflushed -> flush(BIT(i))
	:: else
	fi;
	F = (S & session) | BIT(i);
	/* the smallest clean of S, as far as it goes with it */
	s = 255;
	j = 0;
	do
	:: j < N ->
		if
		:: (S & session & BIT(j)) != 0 && clean[j] < s -> s = clean[j]
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0;
	if
	:: BUG == grow_clean -> s = wgen - 1
	:: else
	fi;
	k = MAX(wgen, P_wgen);
	if
	:: /* the target accepts */
		rebuilding = rebuilding & ~BIT(i);
		clean[i] = s;
		target = N; todo = 0; joint = false; w_target = false;
		propose()
	:: opens < OPENS -> /* it does not: nothing was committed */
		if
		:: P == 0 -> P = F; P_wgen = k
		:: else
		fi;
		stop()
	fi;
	reset()
}

active proctype World() {
	atomic {
		c_code {
			BUG = atoi(getenv("BUG"));
			OPENS = atoi(getenv("OPENS"));
			WRITES = atoi(getenv("WRITES"));
			CHECKPOINTS = atoi(getenv("CHECKPOINTS"));
			FAULTS = atoi(getenv("FAULTS"));
		};
		do
		:: x < X -> poss[x] = 1; live[x] = 1; x++
		:: else -> break
		od;
		i = 0;
		do
		:: i < N * X -> stamp[i] = 1; i++
		:: else -> break
		od;
		reset();
		i = 0;
		do
		:: i < N -> clean[i] = 1; i++
		:: else -> break
		od;
#ifdef AFTER_CRASH
		i = AT(N - 1, 0);
		data[i] = 1;
		stamp[i] = 2;
		entry[i] = 1;
		poss[0] = 3;
		live[0] = 3;
		writes = 1;
		wgen = 2;
		if
		:: valid = ALL
		:: true
		fi;
#endif
		reset()
	};
	do
	/* ---- faults ---- */
	:: atomic { up && opens < OPENS -> printf("the nexus dies\n"); stop() }
	:: atomic {
		session != 0 && faults < FAULTS -> pick(i, N);
		if
		:: (session & BIT(i)) != 0 -> faults++; printf("no answer from %d\n", i); session = session & ~BIT(i)
		:: else
		fi;
		reset()
	   }
	:: atomic { faults < FAULTS -> faults++; pick(i, N); printf("%d restarts\n", i); restart(i); reset() }
	:: atomic {
		faults < FAULTS -> faults++;
		pick(i, N + 1);
		if
		:: i < N -> printf("%d loses power\n", i); lose_power(i)
		:: else ->
			printf("all lose power\n");
			i = 0;
			do
			:: i < N -> lose_power(i); i++
			:: else -> break
			od
		fi;
		reset()
	   }
	/* ---- nexus: opening and sessions ---- */
	:: atomic { !up && opens < OPENS -> open(); printf("open: S %d R %d by stamps %d wgen %d\n", S, R, R_by_stamps, wgen) }
	:: atomic {
		up -> pick(i, N);
		if
		:: (session & BIT(i)) == 0 && ((S | P) & BIT(i)) != 0 && ((lost & BIT(i)) == 0 || BUG == power_ignored) ->
			printf("session with %d\n", i);
			session = session | BIT(i);
			if
			:: (w_active || unsettled) && BUG != resynced_early -> before_session = before_session | BIT(i)
			:: else
			fi
		:: else
		fi;
		reset()
	   }
	/* ---- host ---- */
	:: atomic {
		up && !w_active && writes < WRITES -> writes++;
		pick(x, X);
		printf("write %d to region %d, wgen %d\n", writes, x, wgen);
		w_active = true; w_x = x; w_value = writes; w_wgen = wgen; w_done = 0;
		w_target = target < N && (todo & BIT(x)) == 0;
		poss[x] = poss[x] | BIT(writes);
		live[x] = live[x] | BIT(writes);
		j = 0;
		do
		:: j < N ->
			if
			:: ((S | P) & BIT(j)) == 0 && (map_known & BIT(j)) != 0 -> map[j] = map[j] | BIT(x)
			:: else
			fi;
			j++
		:: else -> break
		od;
		reset()
	   }
	:: atomic {
		w_active -> pick(i, N);
		if
		:: (session & ~w_done & BIT(i)) != 0 && ((NEED & BIT(i)) != 0 || (i == target && w_target)) ->
			printf("written at %d\n", i);
			k = stamp[AT(i, w_x)];
			put(i, w_x, w_value, w_wgen);
			w_done = w_done | BIT(i);
			if
			:: BUG == stamp_late -> stamp[AT(i, w_x)] = k; stop() /* dies between data and stamp */
			:: true
			fi
		:: else
		fi;
		reset()
	   }
	:: atomic { w_active && (NEED & ~w_done) == 0 -> printf("acknowledged\n"); poss[w_x] = BIT(w_value); end_write() }
	:: atomic { /* an error for the host, nobody is dropped */
		w_active -> printf("write fails\n");
		R = R | BIT(w_x);
		unsettled = true;
		end_write()
	   }
	:: atomic {
		up -> pick(i, N); pick(x, X);
		if
		:: READABLE(i) && !LOCKED(x) && ((R & BIT(x)) == 0 || BUG == no_copy) ->
			printf("read region %d at %d: %d\n", x, i, data[AT(i, x)]);
			assert((poss[x] & BIT(data[AT(i, x)])) != 0);
			poss[x] = BIT(data[AT(i, x)])
		:: else
		fi;
		reset()
	   }
	:: atomic {
		up && (NEED & ~session) == 0 -> printf("flush\n");
		k = NEED;
		flush(k);
		do
		:: x < X -> live[x] = poss[x]; x++
		:: else -> break
		od;
		reset()
	   }
	/* ---- resync, clean, windows ---- */
	:: atomic { up && R != 0 -> printf("copy of R\n"); copy_R() }
	:: atomic {
		up && R == 0 && !unsettled && !ended && ((NEED & ~session) == 0 || BUG == clean_unreachable) -> printf("R is empty\n");
		ended = true;
		if
		:: BUG == clean_unflushed
		:: else -> k = NEED & session; flush(k); k = 0
		fi;
		mark = MAX(mark, wgen - 1)
	   }
	:: atomic {
		up && mark != 0 -> pick(i, N);
		if
		:: ((S & ~rebuilding & BIT(i)) != 0 || BUG == mark_other) && (session & BIT(i)) != 0 && clean[i] < mark ->
			printf("clean of %d is %d\n", i, mark);
			clean[i] = mark
		:: else
		fi;
		reset()
	   }
	:: atomic {
		up && R == 0 && !unsettled -> pick(i, N);
		if
		:: (S & BIT(i)) != 0 && (session & ~before_session & BIT(i)) != 0 || (S & ~session & BIT(i)) != 0 && BUG == resynced_old_boot ->
			printf("RESYNCED at %d\n", i);
			valid = valid | BIT(i);
			do
			:: x < X ->
				if
				:: entry[AT(i, x)] == 1 -> entry[AT(i, x)] = 0
				:: else
				fi;
				x++
			:: else -> break
			od
		:: else
		fi;
		reset()
	   }
	:: atomic {
		up && (!w_active || BUG == settled_early) && !unsettled -> pick(i, N);
		if
		:: (session & BIT(i)) != 0 ->
			printf("settled at %d\n", i);
			do
			:: x < X ->
				if
				:: entry[AT(i, x)] == 2 -> entry[AT(i, x)] = 0
				:: else
				fi;
				x++
			:: else -> break
			od
		:: else
		fi;
		reset()
	   }
	/* ---- checkpoint ---- */
	:: atomic {
		up && (R == 0 && !unsettled || BUG == checkpoint_in_R) && ended && !joint && P == 0 && !checkpointing && checkpoints < CHECKPOINTS &&
		(S & ~session) == 0 -> printf("checkpoint\n");
		checkpoints++;
		F = S;
		k = wgen + 1;
		s = wgen;
		propose();
		if
		:: up && wgen > s -> checkpointing = true
		:: else
		fi;
		reset()
	   }
	:: atomic {
		checkpointing && (R == 0 && !unsettled || BUG == checkpoint_in_R) && (!w_active || w_wgen == wgen || BUG == checkpoint_early) &&
		((NEED & ~session) == 0 || BUG == clean_unreachable) -> printf("checkpoint ends\n");
		if
		:: BUG == clean_unflushed
		:: else -> k = NEED & session; flush(k); k = 0
		fi;
		mark = MAX(mark, wgen - 1);
		checkpointing = false
	   }
	/* ---- degrade, rejoin, grow ---- */
	:: atomic {
		up && (P != 0 || (S & ~session) != 0) && (S & session) != 0 -> F = S & session;
		printf("propose %d\n", F);
		k = MAX(wgen, P_wgen);
		propose();
		reset()
	   }
	:: atomic { up && target == N -> attach(); printf("target %d todo %d\n", target, todo) }
	:: atomic { target < N && (session & BIT(target)) == 0 -> printf("target fails\n"); target_failed() }
	:: atomic {
		target < N && todo != 0 && (session & BIT(target)) != 0 -> pick(x, X); pick(s, N);
		if
		:: (todo & ~R & BIT(x)) != 0 && READABLE(s) && !LOCKED(x) ->
			printf("copy of region %d to the target\n", x);
			copy(s, target);
			todo = todo & ~BIT(x)
		:: else
		fi;
		reset()
	   }
	:: atomic { target < N && todo == 0 && !joint && !checkpointing && (session & BIT(target)) != 0 -> joint = true }
	:: atomic {
		joint && (session & BIT(target)) != 0 && (S & session) != 0 && !(w_active && (w_done & BIT(target)) == 0) ->
		printf("grow\n");
		grow()
	   }
	od
}
