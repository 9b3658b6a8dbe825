/*-------------------------------------------------------------------------
 *
 * sandbox.cc
 *		What the process may do: compute, and talk to the backend.
 *
 * The engine gives JavaScript no way to files, the network or other processes.
 * Should someone find one all the same, by an error of the engine, then the
 * kernel does not play along: system calls that are not needed end the process.
 *
 * The engine's compiler is off (see README.md), so no memory is ever both
 * written and executed, and making any executable is not allowed either.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What computing and talking need. */
static const int allowed_calls[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(close),
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex),
	SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(setitimer), SCMP_SYS(getrandom),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(restart_syscall),
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(sched_yield), SCMP_SYS(getrusage),
	SCMP_SYS(exit), SCMP_SYS(exit_group)
};

/*
 * What libraries may try and can do without: they are told that it cannot be
 * done.  (A shared library that is asked for a locale looks for files.)
 */
static const int denied_calls[] = {
	SCMP_SYS(openat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(readlinkat),
	SCMP_SYS(faccessat), SCMP_SYS(fstat), SCMP_SYS(prctl), SCMP_SYS(sysinfo),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(uname), SCMP_SYS(clone), SCMP_SYS(clone3),
#ifdef __NR_open
	SCMP_SYS(open), SCMP_SYS(stat), SCMP_SYS(readlink), SCMP_SYS(access),
#endif
};

static void
set_limit(__rlimit_resource_t what, rlim_t value)
{
	struct rlimit limit = {value, value};

	setrlimit(what, &limit);
}

/* Ends if the limits that matter cannot be set: better no JavaScript than unlimited. */
static void
must(bool ok)
{
	if (!ok)
		_exit(DOCREP_JS_EXIT_START);
}

/*
 * The very first: everything is let go of that the backend may have handed down, and
 * this process dies with it.
 */
void
sandbox_first(pid_t parent)
{
	sigset_t	none;

#ifdef __NR_close_range
	if (syscall(__NR_close_range, DOCREP_JS_FD + 1, ~0U, 0) != 0)
#endif
	{
		struct rlimit limit;

		must(getrlimit(RLIMIT_NOFILE, &limit) == 0);
		for (int fd = DOCREP_JS_FD + 1; fd < (int) limit.rlim_cur; fd++)
			close(fd);
	}
	must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	if (parent != 0 && getppid() != parent)
		_exit(0);
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	must(prctl(PR_SET_DUMPABLE, 0) == 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, nullptr);
	signal(SIGPIPE, SIG_IGN);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_FSIZE, 0);
	set_limit(RLIMIT_STACK, 8 * 1024 * 1024);
}

/* Memory that has been written to by now; what the engine itself needs. */
static size_t
data_bytes()
{
	char		text[256];
	int			fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t		len;
	unsigned long pages = 0;

	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	text[len] = '\0';
	sscanf(text, "%*u %*u %*u %*u %*u %lu", &pages);
	return pages * sysconf(_SC_PAGESIZE);
}

/* From now on the process may take so many bytes in addition. */
void
sandbox_limit_memory(size_t bytes)
{
	/* looked at once: the engine's thread may give memory back meanwhile, and a soft limit above the hard one is refused */
	rlim_t		most = data_bytes() + bytes;
	struct rlimit limit = {most, most};

	must(setrlimit(RLIMIT_DATA, &limit) == 0);
}

/* The rules for calls of which some are harmless and some are not. */
static bool
add_partial_rules(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp not_executable = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp myself = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid());

	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &not_executable) == 0 &&
		seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, &not_executable) == 0 &&
		seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &myself) == 0;
}

/* The door is closed: from now on only the calls above are possible.  False if it cannot be. */
bool
sandbox_close()
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	bool		ok = filter != nullptr;

	set_limit(RLIMIT_NPROC, 0);
	set_limit(RLIMIT_NOFILE, DOCREP_JS_FD + 1);	/* all of them are in use */
	for (int call : allowed_calls)
		ok = ok && seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0) == 0;
	for (int call : denied_calls)
		ok = ok && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), call, 0) == 0;
	ok = ok && seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0;	/* all threads */

	/*
	 * System calls as programs of another kind make them (32 bits, x32).  By default that ends
	 * the thread alone: the other would remain, and the backend wait for nobody.
	 */
	ok = ok && seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0;
	ok = ok && add_partial_rules(filter) && seccomp_load(filter) == 0;
	seccomp_release(filter);
	return ok;
}

/* One of the things that must not be possible.  Returns whether it was. */
static bool
attempt(const char *what)
{
	if (strcmp(what, "open") == 0)
		return open("/etc/passwd", O_RDONLY) >= 0;
	if (strcmp(what, "socket") == 0)
		return socket(AF_INET, SOCK_STREAM, 0) >= 0;
	if (strcmp(what, "fork") == 0)
		return fork() >= 0;
	if (strcmp(what, "exec") == 0)
		return execl("/bin/true", "true", nullptr) == 0;
	if (strcmp(what, "kill") == 0)
		return kill(getppid(), 0) == 0;
	if (strcmp(what, "ptrace") == 0)
		return syscall(__NR_ptrace, 0, 0, 0, 0) == 0;
	if (strcmp(what, "executable") == 0)
		return mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
#ifdef __x86_64__
	if (strcmp(what, "32 bits") == 0)
	{
		long		pid = 20;	/* getpid() of 32 bit programs */

		__asm__ volatile ("int $0x80" : "+a" (pid) : : "memory", "r8", "r9", "r10", "r11");
		return pid > 0;
	}
	if (strcmp(what, "x32") == 0)
		return syscall(0x40000000 + __NR_getpid) > 0;
#endif
	if (strcmp(what, "nothing") == 0)
		return true;
	_exit(DOCREP_JS_EXIT_START);
}

/* For the tests: in the sandbox, tries what must not be possible.  Exit status 0: it was. */
int
sandbox_try(const char *what)
{
	return attempt(what) ? 0 : 1;
}
