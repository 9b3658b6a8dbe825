/*-------------------------------------------------------------------------
 *
 * worker.cc
 *		The one thread that helps the engine's main thread.
 *
 * The engine hands parts of its garbage collection to threads, and newer versions
 * wait for them.  By itself it would start as many as the machine has processors;
 * one is enough.  It is made before the sandbox is closed, as none can be later.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

/* More than the engine ever hands over at a time, as it believes in one thread. */
#define MAX_TASKS		64

static struct
{
	void		(*run) (void *);
	void	   *task;
}			tasks[MAX_TASKS];
static int	first_task = 0;
static int	ntasks = 0;
static bool running = false;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static pthread_cond_t started = PTHREAD_COND_INITIALIZER;

/* A task for the thread; called by the engine. */
void
worker_add(void (*run) (void *), void *task)
{
	int			place;

	pthread_mutex_lock(&mutex);
	if (ntasks == MAX_TASKS)
		_exit(DOCREP_JS_EXIT_MEMORY);
	place = (first_task + ntasks++) % MAX_TASKS;
	tasks[place].run = run;
	tasks[place].task = task;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&mutex);
}

/* Runs tasks for ever. */
static void *
work(void *)
{
	pthread_mutex_lock(&mutex);
	running = true;
	pthread_cond_signal(&started);
	for (;;)
	{
		while (ntasks == 0)
			pthread_cond_wait(&more, &mutex);

		auto		next = tasks[first_task];

		first_task = (first_task + 1) % MAX_TASKS;
		ntasks--;
		pthread_mutex_unlock(&mutex);
		next.run(next.task);
		pthread_mutex_lock(&mutex);
	}
}

/*
 * Starts the thread, which gets no signals: the timer's is for the main thread.  When this
 * returns it has done the system calls with which a thread begins.
 */
bool
worker_start()
{
	pthread_t	thread;
	sigset_t	all;
	sigset_t	before;
	bool		ok;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ok = pthread_create(&thread, nullptr, work, nullptr) == 0;
	pthread_sigmask(SIG_SETMASK, &before, nullptr);
	pthread_mutex_lock(&mutex);
	while (ok && !running)
		pthread_cond_wait(&started, &mutex);
	pthread_mutex_unlock(&mutex);
	return ok;
}
