/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots: barrier, PREPARE, FLUSH, commit; what an opener and a rebuild do with what is left of them.
 *
 * As in stamps.pml: one nexus at a time, the voters are one register (committed configuration and at most one proposed since), each
 * alternative is an atomic step.  One block, which is copied whole at each opening and rebuild.  A snapshot's image at a replica is the value that the
 * block had when PREPARE was executed; it is PREPARED, or KEPT once the replica was told that it exists.
 *
 * Ghost: poss and live as in stamps.pml; image[a] is the set of values of snapshot a, fixed when the barrier closes; exists says which were
 * committed.  A snapshot that exists is on every member of S with one and the same value out of that set; none that does not exist is kept.
 *
 * BUG=number breaks one rule:
 */
#define none          0
#define no_drain      1  /* the barrier does not wait for the write under way */
#define no_stop       2  /* writes go on while members are prepared */
#define in_R          3  /* the barrier does not wait until R is empty */
#define unflushed     4  /* no flush between PREPARE and the proposal */
#define reused_number 5  /* a snapshot's number is one more than that of the last committed one, so an aborted one's is used again; not a bug by itself */
#define before_commit 6  /* an opener keeps and deletes before it has committed its configuration */
#define keep_all      7  /* an opener keeps everything that is PREPARED */
#define delete_all    8  /* an opener deletes everything that is PREPARED */
#define target_keeps  9  /* a rebuild keeps what is PREPARED with a number up to the last committed one, as an opener does */
#define prepare_keeps 10 /* PREPARE leaves an older PREPARED image as it is */
#define grow_between  11 /* a target joins between PREPARE and the commit */
#define grow_lacking  12 /* a target joins although it lacks a snapshot */
#define layer_early   13 /* a layer that was copied counts as kept before it is flushed */

#define same_image    14 /* reused_number and prepare_keeps together: PREPARE finds the image of an aborted attempt */

#ifndef N
#define N 2 /* replicas */
#endif
#ifndef SNAPSHOTS
#define SNAPSHOTS 2 /* attempts */
#endif

/* Given to the search in its environment. */
hidden byte BUG, OPENS, WRITES;
hidden byte FAULTS; /* an answer that does not come, a loss of power (of one or of all), a proposal that stays open, an abort */

#define BIT(i) (1 << (i))
#define ALL (BIT(N) - 1)
#define AT(i, a) ((i) * SNAPSHOTS + (a))
#define PREPARED 1
#define KEPT 2

/* replicas */
byte data[N], disk[N];
byte state[N * SNAPSHOTS], value[N * SNAPSHOTS]; /* by number, from 0 */
byte attempt[N * SNAPSHOTS];                      /* ghost: which attempt an image belongs to */
byte flushed[N];                                  /* numbers whose images are flushed */
byte lost = 0, rebuilding = 0;

/* configurations: S and how many snapshot numbers are committed, that is snap_seq */
byte S = ALL, snap = 0, P = 0, P_snap = 0;

/* the nexus */
bool up = false, R = false;
byte session = 0, target = N, unsettled_members = 0; /* the members that may still have something PREPARED of an earlier opening */
bool copied = false;
bool w_active = false;
byte w_value = 0, w_done = 0;
byte phase = 0; /* of the barrier: 1 members are prepared, 2 writes go on */
byte prepared = 0, number = 0;

/* ghosts and bounds */
byte poss = 1, live = 1, image[SNAPSHOTS], exists = 0, attempts = 0, now_attempt = 0;
byte committed_attempt[SNAPSHOTS]; /* by number */
byte opens = 0, writes = 0, faults = 0;

/* scratch */
byte i = 0, a = 0, s = 0, F = 0, k = 0;

#define NEED (S | P)
#define READABLE(r) (up && (S & session & BIT(r)) != 0 && (P == 0 || (P & BIT(r)) != 0))

inline pick(v, bound) {
	v = 0;
	do
	:: v < bound - 1 -> v++
	:: break
	od
}

inline reset() { i = 0; a = 0; s = 0; F = 0; k = 0 }

inline drop_image(r, which) {
	state[AT(r, which)] = 0;
	value[AT(r, which)] = 0;
	attempt[AT(r, which)] = 0;
	flushed[r] = flushed[r] & ~BIT(which)
}

inline end_barrier() { phase = 0; prepared = 0; number = 0; now_attempt = 0 }

inline stop() {
	up = false; R = false; session = 0; target = N; unsettled_members = 0; copied = false;
	w_active = false; w_value = 0; w_done = 0;
	end_barrier()
}

inline lose_power(r) {
	a = 0;
	do
	:: a < SNAPSHOTS ->
		if
		:: state[AT(r, a)] != 0 && (flushed[r] & BIT(a)) == 0 ->
			if
			:: flushed[r] = flushed[r] | BIT(a)
			:: value[AT(r, a)] = disk[r]; flushed[r] = flushed[r] | BIT(a)
			:: drop_image(r, a)
			fi
		:: else
		fi;
		a++
	:: else -> break
	od;
	a = 0;
	if
	:: data[r] = disk[r]
	:: disk[r] = data[r]
	fi;
	lost = lost | BIT(r);
	session = session & ~BIT(r)
}

inline flush(who) {
	i = 0;
	do
	:: i < N ->
		if
		:: (who & BIT(i)) != 0 ->
			disk[i] = data[i];
			a = 0;
			do
			:: a < SNAPSHOTS ->
				if
				:: state[AT(i, a)] != 0 -> flushed[i] = flushed[i] | BIT(a)
				:: else
				fi;
				a++
			:: else -> break
			od;
			a = 0
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* Replica r learns that the numbers below `limit` are committed. */
inline settle(r, limit) {
	a = 0;
	do
	:: a < SNAPSHOTS ->
		if
		:: state[AT(r, a)] == PREPARED && (a < limit || BUG == keep_all) && BUG != delete_all ->
			state[AT(r, a)] = KEPT;
			/* nothing is kept that does not exist, or no more than the number of what does */
			assert((exists & BIT(a)) != 0);
			assert(committed_attempt[a] == attempt[AT(r, a)])
		:: state[AT(r, a)] == PREPARED && !((a < limit || BUG == keep_all) && BUG != delete_all) -> drop_image(r, a)
		:: else
		fi;
		a++
	:: else -> break
	od;
	a = 0
}

/* F with `k` snapshots becomes the committed configuration.  The one above the last is that of the barrier or of the proposal. */
inline commit(limit) {
	S = F;
	if
	:: limit > snap -> snap = limit; exists = exists | BIT(limit - 1)
	:: else
	fi;
	P = 0;
	P_snap = 0
}

inline propose() {
	if
	:: commit(k); session = session & (F | (target < N -> BIT(target) : 0))
	:: P == 0 && faults < FAULTS -> faults++; P = F; P_snap = k
	:: opens < OPENS ->
		/* dies; what is found */
		if
		:: P = F; P_snap = k
		:: true
		fi;
		stop()
	fi
}

inline open() {
	if
	:: P != 0 -> F = P; k = P_snap
	:: F = S; k = snap
	fi;
	pick(s, ALL + 1); /* who answers */
	F = F & s & ~rebuilding;
	s = 0;
	if
	:: F == 0
	:: F != 0 ->
		opens++;
		if
		:: (F & ~lost) != 0 -> F = F & ~lost
		:: else -> poss = live
		fi;
		if
		:: BUG == before_commit ->
			i = 0;
			do
			:: i < N ->
				if
				:: (F & BIT(i)) != 0 ->
					s = 0;
					do
					:: s < SNAPSHOTS ->
						if
						:: state[AT(i, s)] == PREPARED && s < k -> state[AT(i, s)] = KEPT
						:: state[AT(i, s)] == PREPARED && s >= k -> drop_image(i, s)
						:: else
						fi;
						s++
					:: else -> break
					od;
					s = 0
				:: else
				fi;
				i++
			:: else -> break
			od;
			i = 0
		:: else
		fi;
		if
		:: /* committed */
			commit(k);
			lost = lost & ~F;
			up = true;
			session = F;
			R = true;
			unsettled_members = F
		:: opens < OPENS /* dies before: nothing has changed */
		fi
	fi;
	reset()
}

active proctype World() {
	atomic {
		c_code {
			BUG = atoi(getenv("BUG"));
			OPENS = atoi(getenv("OPENS"));
			WRITES = atoi(getenv("WRITES"));
			FAULTS = atoi(getenv("FAULTS"));
		};
		skip
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
	/* ---- opening, sessions ---- */
	:: atomic { !up && opens < OPENS -> open(); printf("open: S %d, %d snapshots\n", S, snap) }
	:: atomic {
		up -> pick(i, N);
		if
		:: (session & BIT(i)) == 0 && (NEED & BIT(i)) != 0 && (lost & BIT(i)) == 0 -> printf("session with %d\n", i); session = session | BIT(i)
		:: else
		fi;
		reset()
	   }
	:: atomic { /* after the opening each member keeps what is committed and deletes the rest */
		unsettled_members != 0 && (P == 0 || P_snap == snap) -> pick(i, N);
		if
		:: (unsettled_members & session & BIT(i)) != 0 ->
			printf("%d keeps and deletes\n", i);
			settle(i, snap);
			unsettled_members = unsettled_members & ~BIT(i)
		:: else
		fi;
		reset()
	   }
	/* ---- host ---- */
	:: atomic {
		up && !w_active && writes < WRITES && (phase != 1 || BUG == no_stop) -> writes++;
		printf("write %d\n", writes);
		w_active = true; w_value = writes; w_done = 0;
		poss = poss | BIT(writes);
		live = live | BIT(writes)
	   }
	:: atomic {
		w_active -> pick(i, N);
		if
		:: (session & ~w_done & BIT(i)) != 0 && ((NEED & BIT(i)) != 0 || i == target) ->
			printf("written at %d\n", i);
			data[i] = w_value;
			w_done = w_done | BIT(i)
		:: else
		fi;
		reset()
	   }
	:: atomic {
		w_active && (NEED & ~w_done) == 0 -> printf("acknowledged\n");
		poss = BIT(w_value);
		if
		:: target < N && (w_done & BIT(target)) == 0 -> copied = false
		:: else
		fi;
		w_active = false; w_value = 0; w_done = 0
	   }
	:: atomic {
		w_active && phase == 0 -> printf("write fails\n");
		R = true;
		copied = false;
		w_active = false; w_value = 0; w_done = 0
	   }
	:: atomic {
		up && !R && !w_active -> pick(i, N);
		if
		:: READABLE(i) -> printf("read at %d: %d\n", i, data[i]); assert((poss & BIT(data[i])) != 0); poss = BIT(data[i])
		:: else
		fi;
		reset()
	   }
	:: atomic { up && (NEED & ~session) == 0 -> printf("flush\n"); k = NEED; flush(k); live = poss; reset() }
	:: atomic { /* copy of R, to all at once: stamps.pml has the details */
		R && !w_active && (NEED & ~session) == 0 -> printf("copy of R\n"); pick(s, N);
		if
		:: READABLE(s) ->
			do
			:: i < N ->
				if
				:: (NEED & BIT(i)) != 0 || i == target -> data[i] = data[s]
				:: else
				fi;
				i++
			:: else -> break
			od;
			R = false
		:: else
		fi;
		reset()
	   }
	:: atomic { /* the snapshot is read */
		up && snap != 0 && (unsettled_members & S) == 0 -> pick(i, N); pick(a, SNAPSHOTS);
		if
		:: READABLE(i) && a < snap && (exists & BIT(a)) != 0 ->
			printf("read of snapshot %d at %d: %d\n", a + 1, i, value[AT(i, a)]);
			assert(state[AT(i, a)] != 0);
			assert((image[committed_attempt[a] - 1] & BIT(value[AT(i, a)])) != 0);
			image[committed_attempt[a] - 1] = BIT(value[AT(i, a)])
		:: else
		fi;
		reset()
	   }
	/* ---- snapshot ---- */
	:: atomic {
		up && phase == 0 && attempts < SNAPSHOTS && P == 0 && (unsettled_members & S) == 0 && (!R || BUG == in_R) && (!w_active || BUG == no_drain) ->
		if
		:: BUG == reused_number || BUG == same_image -> number = snap
		:: else -> number = attempts
		fi;
		printf("barrier of snapshot %d\n", number + 1);
		image[attempts] = poss;
		attempts++;
		now_attempt = attempts;
		phase = 1
	   }
	:: atomic {
		phase == 1 -> pick(i, N);
		if
		:: (S & session & ~prepared & BIT(i)) != 0 ->
			printf("PREPARE at %d: %d\n", i, data[i]);
			if
			:: BUG != prepare_keeps && BUG != same_image -> settle(i, snap)
			:: else
			fi;
			if
			:: state[AT(i, number)] == 0 ->
				state[AT(i, number)] = PREPARED;
				value[AT(i, number)] = data[i];
				attempt[AT(i, number)] = now_attempt
			:: else /* it is there already */
			fi;
			prepared = prepared | BIT(i)
		:: else
		fi;
		reset()
	   }
	:: atomic { phase == 1 && (S & ~prepared) == 0 && P == 0 -> printf("writes go on\n"); phase = 2 }
	:: atomic { /* takes too long: deleted where a member answers */
		phase != 0 && P == 0 && faults < FAULTS -> faults++;
		printf("abort\n");
		do
		:: i < N ->
			if
			:: (prepared & session & BIT(i)) != 0 ->
				if
				:: drop_image(i, number)
				:: true
				fi
			:: else
			fi;
			i++
		:: else -> break
		od;
		end_barrier();
		reset()
	   }
	:: atomic {
		phase == 2 && P == 0 && (S & ~session) == 0 -> printf("flush and commit\n");
		if
		:: BUG != unflushed -> k = S; flush(k); live = poss
		:: else
		fi;
		committed_attempt[number] = now_attempt;
		F = S;
		k = number + 1;
		propose();
		end_barrier();
		reset()
	   }
	/* ---- degrade, rejoin, grow ---- */
	:: atomic {
		up && (P != 0 || (S & ~session) != 0) && (S & session) != 0 -> F = S & session;
		printf("propose %d\n", F);
		if
		:: P_snap > snap -> k = P_snap
		:: k = snap /* given up: the next configuration is without it */
		fi;
		unsettled_members = unsettled_members & F;
		propose();
		reset()
	   }
	:: atomic {
		up && target == N && !w_active && P == 0 -> pick(i, N);
		if
		:: (S & BIT(i)) == 0 ->
			printf("target %d\n", i);
			target = i;
			session = session | BIT(i);
			rebuilding = rebuilding | BIT(i);
			lost = lost & ~BIT(i);
			copied = false;
			/* nothing that is only PREPARED is kept: it may be of an attempt that came to nothing, or not flushed */
			if
			:: BUG == target_keeps -> settle(i, snap)
			:: else -> settle(i, 0)
			fi
		:: else
		fi;
		reset()
	   }
	:: atomic { target < N && (session & BIT(target)) == 0 -> printf("target fails\n"); target = N; copied = false }
	:: atomic { /* the layers that it lacks, and the block */
		target < N && (session & BIT(target)) != 0 && !R && !w_active && (unsettled_members & S) == 0 -> pick(s, N);
		if
		:: READABLE(s) ->
			printf("copy to the target\n");
			do
			:: a < SNAPSHOTS ->
				if
				:: a < snap && (exists & BIT(a)) != 0 && state[AT(target, a)] == 0 ->
					state[AT(target, a)] = (BUG == layer_early -> KEPT : PREPARED);
					value[AT(target, a)] = value[AT(s, a)];
					attempt[AT(target, a)] = attempt[AT(s, a)]
				:: else
				fi;
				a++
			:: else -> break
			od;
			data[target] = data[s];
			copied = true
		:: else
		fi;
		reset()
	   }
	:: atomic {
		target < N && copied && (session & BIT(target)) != 0 && (S & ~session) == 0 && P == 0 && !w_active && (phase == 0 || BUG == grow_between) ->
		/* all that exist are there */
		k = 1;
		do
		:: a < SNAPSHOTS ->
			if
			:: a < snap && (exists & BIT(a)) != 0 && state[AT(target, a)] == 0 && BUG != grow_lacking -> k = 0
			:: else
			fi;
			a++
		:: else -> break
		od;
		a = 0;
		if
		:: k == 1 ->
			printf("grow\n");
			F = S | BIT(target);
			i = BIT(target);
			k = i;
			flush(k);
			/* only now are the layers kept: what was not flushed is copied again after a failure */
			settle(target, snap);
			rebuilding = rebuilding & ~BIT(target);
			target = N;
			copied = false;
			k = snap;
			propose()
		:: else
		fi;
		reset()
	   }
	od
}
