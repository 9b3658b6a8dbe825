/*-------------------------------------------------------------------------
 *
 * frames.cc
 *		Reading and writing the frames of js_protocol.h.
 *
 * Answers are collected and sent together, unless the reader would otherwise
 * wait for work: the backend reads whenever it cannot write, so blocking is safe.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is read at a time, and how much output is collected at most. */
#define READ_SIZE		(64 * 1024)
#define OUTPUT_SIZE		(32 * 1024)

static char *input = nullptr;
static size_t input_size = 0;
static size_t input_begin = 0;	/* the first byte that has not been used */
static size_t input_end = 0;
static size_t frame_limit = 0;

static char output[OUTPUT_SIZE];
static size_t output_len = 0;

/* A frame that makes no sense: the backend is not what it seems, and gets no answer. */
void
frames_garbage()
{
	_exit(DOCREP_JS_EXIT_GARBAGE);
}

/* Frames longer than this are refused. */
void
frames_limit(size_t bytes)
{
	frame_limit = bytes;
}

static void
need(const Frame *frame, size_t bytes)
{
	if ((size_t) (frame->end - frame->at) < bytes)
		frames_garbage();
}

uint8_t
Frame::take_byte()
{
	need(this, 1);
	return (uint8_t) *at++;
}

uint32_t
Frame::take_number()
{
	uint32_t	number;

	need(this, sizeof(number));
	memcpy(&number, at, sizeof(number));
	at += sizeof(number);
	return number;
}

/* A string; with the length DOCREP_JS_SAME there is none, and data is nullptr. */
Text
Frame::take_string()
{
	Text		text = {nullptr, take_number()};

	if (text.len == DOCREP_JS_SAME)
		return text;
	need(this, text.len);
	text.data = at;
	at += text.len;
	return text;
}

Text
Frame::take_rest()
{
	Text		text = {at, (uint32_t) (end - at)};

	at = end;
	return text;
}

void
Frame::expect_end()
{
	if (at != end)
		frames_garbage();
}

/* Makes room for "bytes" bytes from input_begin on. */
static void
make_room(size_t bytes)
{
	if (input_begin > 0)
	{
		memmove(input, input + input_begin, input_end - input_begin);
		input_end -= input_begin;
		input_begin = 0;
	}
	if (bytes > input_size)
	{
		char	   *larger = (char *) realloc(input, bytes);

		if (larger == nullptr)
			_exit(DOCREP_JS_EXIT_MEMORY);
		input = larger;
		input_size = bytes;
	}
}

/* What a very long frame has needed is given back. */
static void
give_back()
{
	if (input_begin == input_end && input_size > 16 * READ_SIZE)
	{
		free(input);
		input = nullptr;
		input_size = input_begin = input_end = 0;
	}
}

/* Waits for input.  After a while without any, memory is tidied; after a long one it ends. */
static void
wait_for_input(void (*idle) ())
{
	struct pollfd poll_fd = {DOCREP_JS_FD, POLLIN, 0};
	int			seconds = 2;

	for (;;)
	{
		int			ready = poll(&poll_fd, 1, seconds * 1000);

		if (ready > 0)
			return;
		if (ready < 0 && errno != EINTR)
			_exit(0);
		if (ready == 0 && seconds > 2)
			_exit(0);
		if (ready == 0)
		{
			idle();
			seconds = DOCREP_JS_IDLE;
		}
	}
}

/* Reads until "bytes" bytes are there from input_begin on.  Returns false at the end. */
static bool
read_up_to(size_t bytes, void (*idle) ())
{
	while (input_end - input_begin < bytes)
	{
		ssize_t		got;

		if (input_size - input_begin < bytes || input_end == input_size)
			make_room(bytes > READ_SIZE ? bytes : READ_SIZE);
		frames_flush();
		wait_for_input(idle);
		got = read(DOCREP_JS_FD, input + input_end, input_size - input_end);
		if (got == 0)
			return false;
		if (got < 0 && errno != EINTR)
			return false;
		if (got > 0)
			input_end += got;
	}
	return true;
}

/*
 * The next frame, which is good until this is called again; false when the backend
 * has gone.
 */
bool
frames_next(Frame *frame, void (*idle) ())
{
	uint32_t	len;

	give_back();
	if (!read_up_to(sizeof(len), idle))
		return false;
	memcpy(&len, input + input_begin, sizeof(len));
	if (len < 1 || len > frame_limit)
		frames_garbage();
	if (!read_up_to(sizeof(len) + len, idle))
		return false;
	frame->type = input[input_begin + sizeof(len)];
	frame->at = input + input_begin + sizeof(len) + 1;
	frame->end = frame->at + len - 1;
	input_begin += sizeof(len) + len;
	return true;
}

/* Sends what was collected. */
void
frames_flush()
{
	size_t		sent = 0;

	while (sent < output_len)
	{
		ssize_t		done = write(DOCREP_JS_FD, output + sent, output_len - sent);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			_exit(0);
		sent += done;
	}
	output_len = 0;
}

static void
put_bytes(const void *data, size_t len)
{
	memcpy(output + output_len, data, len);
	output_len += len;
}

/* Sends a frame of at most a few thousand bytes, by and by. */
void
frames_put(char type, const char *data, size_t len)
{
	uint32_t	size = len + 1;

	if (output_len + sizeof(size) + size > OUTPUT_SIZE)
		frames_flush();
	put_bytes(&size, sizeof(size));
	put_bytes(&type, 1);
	put_bytes(data, len);
}

/* The same of a verdict and its reason. */
void
frames_put_verdict(char type, uint8_t verdict, const char *reason, size_t len)
{
	char		data[1 + DOCREP_JS_REASON_MAX];

	data[0] = (char) verdict;
	memcpy(data + 1, reason, len);
	frames_put(type, data, 1 + len);
}
