/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace points, and the kinds of work that a breadcrumb names.  New ones are added at the end
 * of their list: a file of an older version is read with the same numbers.  docs/trace.md says what
 * each means.
 *
 * A point has up to four numbers; "" where it has none.  The first is the short id (the first eight
 * digits of the uuid) of a volume or replica.  "request" is printed by its name, "opcode" in
 * hexadecimal, everything else in decimal.
 */
#ifndef TRACE_POINTS_H
#define TRACE_POINTS_H

/* X(name, object, part, a, b).  The name is also that of the USDT probe, hence in small letters. */
#define TRACE_POINTS(X)                                                                            \
	/* nexus */                                                                                \
	X(host_issue, "volume", "request", "offset", "length")                                     \
	X(host_ack, "volume", "request", "offset", "error")                                        \
	X(leg_send, "volume", "leg", "opcode", "slba")                                             \
	X(leg_answer, "volume", "leg", "opcode", "result")                                         \
	X(leg_fence, "volume", "leg", "inc", "session")                                            \
	X(leg_ready, "volume", "leg", "session", "clean")                                          \
	X(leg_unready, "volume", "leg", "session", "given_up")                                     \
	X(leg_fail, "volume", "leg", "member", "ready")                                            \
	X(open_begin, "volume", "", "attach", "inc")                                               \
	X(open_serve, "volume", "", "members", "resync_regions")                                   \
	X(member_propose, "volume", "", "gen", "members")                                          \
	X(member_commit, "volume", "", "gen", "members")                                           \
	X(rebuild_begin, "volume", "leg", "", "")                                                  \
	X(rebuild_copy, "volume", "leg", "todo_regions", "")                                       \
	X(rebuild_join, "volume", "leg", "", "")                                                   \
	X(rebuild_drop, "volume", "leg", "", "")                                                   \
	X(copy_begin, "volume", "source", "offset", "length")                                      \
	X(copy_end, "volume", "source", "offset", "destinations")                                  \
	/* pool-agent */                                                                           \
	X(command, "replica", "opcode", "slba", "blocks")                                          \
	X(command_done, "replica", "opcode", "slba", "status")                                     \
	X(fence, "replica", "", "inc", "session")                                                  \
	X(fence_done, "replica", "", "inc", "error")                                               \
	X(voter_command, "replica", "opcode", "gen", "status")                                     \
	X(stamp, "replica", "", "region", "wgen")                                                  \
	X(journal_commit, "", "records", "seq", "tail")

/* X(NAME, text).  READ to DISCARD are in the order of enum blk_kind. */
#define TRACE_WORKS(X)                                                                             \
	X(NONE, "")                                                                                \
	X(READ, "read")                                                                            \
	X(WRITE, "write")                                                                          \
	X(FLUSH, "flush")                                                                          \
	X(ZERO, "zero")                                                                            \
	X(DISCARD, "discard")                                                                      \
	X(FRONTEND, "frontend")                                                                    \
	X(ANSWER, "answer")                                                                        \
	X(FENCE, "fence")                                                                          \
	X(OPEN, "open")                                                                            \
	X(MEMBERSHIP, "membership")                                                                \
	X(SETTLE, "settle")                                                                        \
	X(REBUILD, "rebuild")                                                                      \
	X(COPY, "copy")                                                                            \
	X(STAMPS, "stamps")                                                                        \
	X(COMPARE, "compare")                                                                      \
	X(TICK, "tick")                                                                            \
	X(CLOSE, "close")

#define TRACE_POINT_NUMBER(name, object, part, a, b) TRACE_##name,
enum trace_point { TRACE_POINTS(TRACE_POINT_NUMBER) TRACE_POINT_COUNT };
#undef TRACE_POINT_NUMBER

#define TRACE_WORK_NUMBER(name, text) TRACE_WORK_##name,
enum trace_work { TRACE_WORKS(TRACE_WORK_NUMBER) TRACE_WORK_COUNT };
#undef TRACE_WORK_NUMBER

#endif
