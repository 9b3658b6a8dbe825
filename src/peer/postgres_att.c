/*-------------------------------------------------------------------------
 *
 * postgres_att.c
 *		Contents of attachments of another server's table, over a connection
 *		of their own.
 *
 * Several pieces are on their way at a time, so that a long way does not make
 * the transfer slow; memory holds no more than these.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "peer/postgres_att.h"
#include "port/pg_bswap.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* pieces that are asked for, or sent, and not answered */
#define WINDOW		4

typedef enum SentKind
{
	SENT_READ,
	SENT_ASK,
	SENT_APPEND,
	SENT_FINISH
} SentKind;

/* A statement that has not been answered. */
typedef struct Sent
{
	dlist_node	link;
	SentKind	kind;
	Size		expected;		/* of a read: how much there should be */
	int			asked;			/* of an ask: how many contents */
	DocAtt	   *att;			/* of a finish */
	int64		length;			/* of a finish */
} Sent;

struct DocrepPgAtts
{
	DocrepPeer *peer;
	const DocrepPgUrl *url;
	const uint8 *table;
	bool		restricted;
	DocrepPgConn *c;
	dlist_head	sent;
	int			nsent;			/* of all kinds */

	/* a content that is being read */
	const DocrepDoc *doc;
	const DocAtt *att;
	int64		asked;			/* so far it was asked for */
	const char *piece;			/* the head of "sent", in c->result; NULL: not there yet */
	Size		len;
	Size		used;

	/* what the server has, of what was asked for */
	int64	   *answers;
	int			nanswers;
	int			answers_cap;
	int			answered;

	/* one that is being stored */
	int64		upload;			/* number of the last one */
	bool		uploading;
};

/* ---------- the connection ---------- */

DocrepPgAtts *
docrep_pgatts_create(DocrepPeer *peer, const DocrepPgUrl *url, const uint8 *table)
{
	MemoryContext cxt = GetMemoryChunkContext(peer);
	DocrepPgAtts *a = MemoryContextAllocZero(cxt, sizeof(DocrepPgAtts));

	a->peer = peer;
	a->url = url;
	a->table = table;
	a->restricted = true;
	a->c = docrep_pgconn_create(cxt);
	dlist_init(&a->sent);
	return a;
}

void
docrep_pgatts_restrict(DocrepPgAtts *a, bool restricted)
{
	a->restricted = restricted;
}

void
docrep_pgatts_disconnect(DocrepPgAtts *a)
{
	docrep_pgconn_close(a->c);
}

static TimestampTz
deadline_from_now(const DocrepPgAtts *a)
{
	int			timeout = a->peer->options.request_timeout;

	return timeout > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout) : 0;
}

/* Send a statement, over a connection that is made for the first one. */
static Sent *
send_statement(DocrepPgAtts *a, SentKind kind, const char *sql, const DocrepPgParams *params)
{
	Sent	   *sent;

	if (a->c->conn == NULL)
		docrep_pgconn_connect(a->c, a->url, a->restricted,
							  a->peer->options.connection_timeout);
	docrep_pgconn_send(a->c, sql, params, false);
	sent = MemoryContextAllocZero(a->peer->cxt, sizeof(Sent));
	sent->kind = kind;
	dlist_push_tail(&a->sent, &sent->link);
	a->nsent++;
	return sent;
}

static Sent *
oldest_sent(DocrepPgAtts *a)
{
	return dlist_head_element(Sent, link, &a->sent);
}

static void
drop_sent(DocrepPgAtts *a, Sent *sent)
{
	dlist_delete(&sent->link);
	a->nsent--;
	pfree(sent);
}

/* The only row of the oldest statement's answer, which must have these columns. */
static PGresult *
take_row(DocrepPgAtts *a, int columns, const char *doing)
{
	PGresult   *result = docrep_pgconn_expect(a->c, PGRES_TUPLES_OK,
											  a->peer->options.request_timeout, doing);

	if (PQntuples(result) != 1 || PQnfields(result) != columns)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("%s failed at %s", doing, a->peer->display),
				 errdetail("Its answer has not the form that was agreed on.")));
	return result;
}

/* A bigint of a row; 0 if it is none. */
static int64
get_bigint(const PGresult *result, int column)
{
	uint64		n;

	if (PQgetisnull(result, 0, column) || PQgetlength(result, 0, column) != sizeof(n))
		return 0;
	memcpy(&n, PQgetvalue(result, 0, column), sizeof(n));
	return (int64) pg_ntoh64(n);
}

/* The oldest statement has been answered, and the answer used. */
static void
end_answer(DocrepPgAtts *a, const char *doing)
{
	docrep_pgconn_finish(a->c, a->peer->options.request_timeout, doing);
	drop_sent(a, oldest_sent(a));
}

/* ---------- reading ---------- */

static const char *const reading = "reading an attachment";

/*
 * Take what was asked for of a content that was closed early: whatever it says,
 * nobody wants it.
 */
static void
discard_reads(DocrepPgAtts *a)
{
	while (!dlist_is_empty(&a->sent))
	{
		do
		{
			if (docrep_pgconn_wait(a->c, deadline_from_now(a), false) == PGWAIT_TIMEOUT ||
				PQstatus(a->c->conn) == CONNECTION_BAD)
				docrep_pgconn_raise(a->c, NULL, reading);
		} while (a->c->result == NULL || PQresultStatus(a->c->result) != PGRES_PIPELINE_SYNC);
		drop_sent(a, oldest_sent(a));
	}
	a->piece = NULL;
}

/*
 * Ask for as many pieces as may be under way.  The last one asks for a byte
 * more than there should be.
 */
static void
ask_for_pieces(DocrepPgAtts *a)
{
	while (a->nsent < WINDOW && a->asked <= a->att->encoded_length)
	{
		int64		left = a->att->encoded_length - a->asked;
		Size		size = Min(left + 1, DOCREP_ATT_PIECE);
		DocrepPgParams params = {0};

		docrep_pgparam_uuid(&params, a->table);
		docrep_pgparam_bigint(&params, a->att->file);
		docrep_pgparam_bigint(&params, a->asked);
		docrep_pgparam_int(&params, (int32) size);
		send_statement(a, SENT_READ, "SELECT docrep.peer_att_read($1, $2, $3, $4)",
					   &params)->expected = Min(left, (int64) size);
		a->asked += size;
	}
}

bool
docrep_pgatts_open(DocrepPeer *peer, const DocrepDoc *doc, DocAtt *att)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);

	discard_reads(a);
	a->doc = doc;
	a->att = att;
	a->asked = 0;
	ask_for_pieces(a);
	return true;
}

/* Wait for the next piece. */
static void
take_piece(DocrepPgAtts *a)
{
	Sent	   *sent = oldest_sent(a);
	PGresult   *result = take_row(a, 1, reading);

	a->piece = PQgetvalue(result, 0, 0);
	a->len = PQgetlength(result, 0, 0);
	a->used = 0;
	if (a->len != sent->expected)
		docrep_att_wrong_length(a->peer, a->doc, a->att,
								a->att->encoded_length - (int64) sent->expected + a->len,
								a->len > sent->expected);
}

Size
docrep_pgatts_read(DocrepPeer *peer, char *buf, Size size)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);
	Size		n;

	while (a->piece == NULL || a->used == a->len)
	{
		if (a->piece != NULL)
		{
			a->piece = NULL;
			end_answer(a, reading);
			ask_for_pieces(a);
		}
		if (dlist_is_empty(&a->sent))
			return 0;
		take_piece(a);
	}
	n = Min(size, a->len - a->used);
	memcpy(buf, a->piece + a->used, n);
	a->used += n;
	return n;
}

void
docrep_pgatts_close(DocrepPeer *peer)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);

	/* what is still to come is taken before the next one is opened */
	a->doc = NULL;
	a->att = NULL;
}

/* ---------- storing ---------- */

static const char *const writing = "writing an attachment";

/* A member of an array in its text form, quoted. */
static void
append_quoted(StringInfo array, const char *text)
{
	appendStringInfoChar(array, '"');
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			appendStringInfoChar(array, '\\');
		appendStringInfoChar(array, *text);
	}
	appendStringInfoChar(array, '"');
}

static void
ask(DocrepPeer *peer, const DocrepDoc *doc, const DocAtt *wanted, int n)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);
	DocrepPgParams params = {0};
	StringInfoData digests;
	StringInfoData lengths;

	initStringInfo(&digests);
	initStringInfo(&lengths);
	for (int i = 0; i < n; i++)
	{
		appendStringInfoChar(&digests, i == 0 ? '{' : ',');
		append_quoted(&digests, wanted[i].digest);
		appendStringInfo(&lengths, "%c" INT64_FORMAT, i == 0 ? '{' : ',', wanted[i].encoded_length);
	}
	appendStringInfoChar(&digests, '}');
	appendStringInfoChar(&lengths, '}');
	docrep_pgparam_uuid(&params, a->table);
	docrep_pgparam_text(&params, doc->id);
	docrep_pgparam_text(&params, digests.data);
	docrep_pgparam_text(&params, lengths.data);
	send_statement(a, SENT_ASK,
				   "SELECT docrep.peer_att_have($1, $2, $3::pg_catalog.text[],"
				   " $4::pg_catalog.int8[])::pg_catalog.text", &params)->asked = n;
	pfree(digests.data);
	pfree(lengths.data);
}

/* Take the answer of the oldest statement, which stores something. */
static void
take_stored(DocrepPgAtts *a)
{
	Sent	   *sent = oldest_sent(a);

	if (sent->kind == SENT_FINISH)
	{
		PGresult   *result = take_row(a, 2, writing);

		sent->att->file = get_bigint(result, 0);
		docrep_upload_check_length(a->peer, sent->att, sent->length, get_bigint(result, 1));
	}
	else
		(void) take_row(a, 1, writing);
	end_answer(a, writing);
}

static const char *const looking = "looking for attachments";

/* Keep an answer: numbers of files, "{1,2}", as many as were asked for. */
static void
keep_answers(DocrepPgAtts *a, int asked)
{
	const char *p = PQgetvalue(take_row(a, 1, looking), 0, 0);
	int			n = 0;

	if (a->nanswers + asked > a->answers_cap)
	{
		a->answers_cap = Max(a->nanswers + asked, Max(64, a->answers_cap * 2));
		a->answers = a->answers ?
			repalloc_huge(a->answers, a->answers_cap * sizeof(int64)) :
			MemoryContextAllocHuge(a->peer->cxt, a->answers_cap * sizeof(int64));
	}
	for (; n < asked && (*p == '{' || *p == ','); n++)
	{
		char	   *end;

		a->answers[a->nanswers++] = Max(strtoll(p + 1, &end, 10), 0);
		p = end;
	}
	if (n != asked || strcmp(p, "}") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("%s failed at %s", looking, a->peer->display),
				 errdetail("Its answer has not the form that was agreed on.")));
}

/*
 * All questions are asked before the first content is sent, so their answers
 * come before those of contents: take them together, and keep them.
 */
static void
take_answers(DocrepPgAtts *a)
{
	while (!dlist_is_empty(&a->sent) && oldest_sent(a)->kind == SENT_ASK)
	{
		keep_answers(a, oldest_sent(a)->asked);
		end_answer(a, looking);
	}
}

static int64
answer(DocrepPeer *peer)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);

	if (a->answered == a->nanswers)
		take_answers(a);
	if (a->answered == a->nanswers)
		elog(ERROR, "an answer is taken to a question that was not asked");
	return a->answers[a->answered++];
}

static void
append(DocrepPeer *peer, const char *data, Size len)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);
	DocrepPgParams params = {0};

	while (a->nsent >= WINDOW)
		take_stored(a);
	if (!a->uploading)
		a->upload++;
	a->uploading = true;
	docrep_pgparam_uuid(&params, a->table);
	docrep_pgparam_bigint(&params, a->upload);
	docrep_pgparam_bytes(&params, data, len);
	(void) send_statement(a, SENT_APPEND, "SELECT docrep.peer_att_append($1, $2, $3)", &params);
}

static void
finish(DocrepPeer *peer, DocAtt *att, int64 length)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);
	DocrepPgParams params = {0};
	Sent	   *sent;

	docrep_pgparam_uuid(&params, a->table);
	docrep_pgparam_bigint(&params, a->upload);
	sent = send_statement(a, SENT_FINISH,
						  "SELECT file, length FROM docrep.peer_att_finish($1, $2)", &params);
	sent->att = att;
	sent->length = length;
	a->uploading = false;
}

static void
settle(DocrepPeer *peer)
{
	DocrepPgAtts *a = docrep_pgatts_of(peer);

	while (!dlist_is_empty(&a->sent))
		take_stored(a);
	a->nanswers = 0;
	a->answered = 0;
}

const DocrepUploadOps docrep_pgatts_upload_ops = {
	.ask = ask,
	.answer = answer,
	.append = append,
	.finish = finish,
	.settle = settle,
};
