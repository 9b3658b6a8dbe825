# docrep: build, tests, demo.
#
#   make                build the module and docrep--VERSION.sql
#   make install        install into the PostgreSQL that pg_config names
#   make stage          install below ./stage only
#   make setup          install the Debian packages that all of this needs
#   make check          set-up, build, stage and run every test
#   make check-unit | check-regress | check-isolation | check-tap | check-interop
#                       one kind of test; REGRESS="a b", ISOLATION="a b" and
#                       PROVE_TESTS="test/tap/t/010_x.pl" select some of them
#   make demo           two databases, real documents, replicated and in conflict
#   make bench          the figures of docs/bench.md
#   make soak           the long versions of the TAP tests
#   make clean
#
# PG_CONFIG=/path/to/pg_config chooses another PostgreSQL.  Nothing but
# "make install" and "make setup" writes outside the checkout and the temporary
# directory.
#
# Goals of the harness need no PostgreSQL to be parsed: they run the set-up and
# then call make again.  So this file has two halves, and PGXS, which insists on
# rules of its own for "check", is included only in the second.

MODULE_big = docrep
EXTENSION = docrep
DOCREP_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" docrep.control)

HARNESS_GOALS = setup check check-unit check-regress check-isolation check-tap \
	check-interop demo bench soak

# The first of these that can build a server module is used: what the user says,
# what the PATH says, the newest that Debian has installed.
ifndef PG_CONFIG
PG_CONFIG := $(shell for c in pg_config `ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -rV`; do \
	f=`$$c --pgxs 2>/dev/null` && test -f "$$f" && { echo $$c; break; }; done)
endif

ifneq (,$(filter $(HARNESS_GOALS),$(MAKECMDGOALS)))
#
# First half: goals that begin with the set-up.
#
export REGRESS ISOLATION PROVE_TESTS PROVE_FLAGS BENCH_FLAGS

.PHONY: $(HARNESS_GOALS) $(filter-out $(HARNESS_GOALS),$(MAKECMDGOALS))
.NOTPARALLEL:

# PG_CONFIG is not handed down unless the user gave it: the set-up may just have
# installed what was missing when this file was read.
remake = +@$(MAKE) --no-print-directory

setup:
	@test/setup.sh

check check-unit check-regress check-isolation check-tap check-interop: setup
	$(remake) stage
	@test/run.sh $(patsubst check-%,%,$(patsubst check,all,$@))

soak: setup
	$(remake) stage
	@DOCREP_SOAK=1 test/run.sh tap interop

demo: setup
	$(remake) stage
	@demo/run.sh

bench: setup
	$(remake) stage
	@test/bench/run.sh

# "make clean check" and the like
$(filter-out $(HARNESS_GOALS),$(MAKECMDGOALS)):
	$(remake) $@

else
#
# Second half: the build.
#
PGXS := $(if $(PG_CONFIG),$(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null)))

ifeq (,$(PGXS))

.DEFAULT_GOAL := all
.PHONY: all install uninstall stage clean installcheck

all install uninstall stage installcheck:
	@echo "docrep: no PostgreSQL with its development files was found" >&2
	@echo "        (\"pg_config --pgxs\" must name a file that exists)." >&2
	@echo "On Debian, \"make setup\" installs what is missing; it needs root or sudo." >&2
	@echo "Elsewhere install PostgreSQL 14 or newer with its development files, those of" >&2
	@echo "xxhash, libcurl, zlib and pcre2, and say where it is:  make PG_CONFIG=/path/to/pg_config" >&2
	@exit 1

clean:
	rm -rf stage tmp_check docrep--*.sql docrep.so .build
	rm -f docrep_js
	find src -name '*.o' -o -name '*.d' -o -name '*.bc' | xargs rm -f

else

# One directory a floor; each calls only those before it.
FLOORS = revision js store filter peer replicator scheduler
SRCS := $(wildcard src/docrep.c $(foreach f,$(FLOORS),src/$(f)/*.c))
OBJS := $(SRCS:.c=.o)

# The install script, in the order in which its pieces need each other.
SQL_FIRST = src/docrep.sql src/store/rev_type.sql src/store/table.sql src/store/local_docs.sql \
	src/store/node.sql src/store/rejected.sql
SQL_FRAGMENTS := $(SQL_FIRST) \
	$(filter-out $(SQL_FIRST),$(foreach f,$(FLOORS),$(sort $(wildcard src/$(f)/*.sql))))

EXTENSION_SQL := docrep--$(DOCREP_VERSION).sql
DATA = $(wildcard sql/docrep--*--*.sql)
DATA_built = $(EXTENSION_SQL)
EXTRA_CLEAN = stage tmp_check .build docrep_js $(OBJS:.o=.d) $(wildcard src/js/engine/*.o src/js/engine/*.d)

# The helper program for JavaScript, if SpiderMonkey (the newest of those that it is
# known to work with) and libseccomp are there; without, docrep is built without.
MOZJS := $(firstword $(foreach v,140 128 115 102,$(if \
	$(shell pkg-config --exists mozjs-$(v) libseccomp 2>/dev/null && echo yes),mozjs-$(v))))
ifneq (,$(MOZJS))
JS_PROGRAM = docrep_js
JS_SRCS := $(wildcard src/js/engine/*.cc)
JS_OBJS := $(JS_SRCS:.cc=.o)
JS_CXXFLAGS = -std=gnu++17 -O2 -g -Wall -Wextra -Wno-unused-parameter -Wno-dangling-pointer \
	-fno-exceptions -fno-rtti -fPIE -pthread -fstack-protector-strong -D_FORTIFY_SOURCE=2 -MMD -MP
JS_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed
endif

PG_CPPFLAGS = -DDOCREP_VERSION='"$(DOCREP_VERSION)"' -Isrc -I$(libpq_srcdir) -MMD -MP
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare
SHLIB_LINK_INTERNAL = $(libpq)
SHLIB_LINK = -lxxhash -lcurl -lz -lpcre2-8

# Makefile.global has its own opinion of these two.  Bitcode for a JIT that will
# never inline us is not worth needing clang; header dependencies are ours
# (above), as those of PGXS confuse files of the same name in two directories.
ifneq ($(origin with_llvm),command line)
override with_llvm := no
endif
override autodepend :=

include $(PGXS)

# What was built for another server or with other flags is built again.
BUILD_ID := $(shell $(PG_CONFIG) --version) $(CC) $(CFLAGS) $(CPPFLAGS) $(MOZJS)
ifneq ($(strip $(BUILD_ID)),$(strip $(shell cat .build 2>/dev/null)))
$(shell printf '%s\n' '$(subst ','\'',$(strip $(BUILD_ID)))' > .build)
endif

$(OBJS): .build
-include $(OBJS:.o=.d)

$(EXTENSION_SQL): $(SQL_FRAGMENTS) docrep.control Makefile
	@{ for f in $(SQL_FRAGMENTS); do printf '\n-- %s\n' $$f; cat $$f || exit 1; done; } > $@.tmp
	@mv $@.tmp $@

ifneq (,$(JS_PROGRAM))
all: $(JS_PROGRAM)

$(JS_PROGRAM): $(JS_OBJS)
	$(CXX) $(JS_CXXFLAGS) $(JS_LDFLAGS) -o $@ $(JS_OBJS) $(shell pkg-config --libs $(MOZJS) libseccomp)

$(JS_OBJS): %.o: %.cc .build
	$(CXX) $(JS_CXXFLAGS) $(shell pkg-config --cflags $(MOZJS) libseccomp) -c -o $@ $<

-include $(JS_OBJS:.o=.d)

install: install-js
.PHONY: install-js
install-js: installdirs $(JS_PROGRAM)
	$(INSTALL_PROGRAM) $(JS_PROGRAM) '$(DESTDIR)$(pkglibdir)/$(JS_PROGRAM)'
else
all: without-js
.PHONY: without-js
without-js: $(EXTENSION_SQL)
	@echo "docrep: built without JavaScript: pkg-config finds no SpiderMonkey (mozjs-140, -128," >&2
	@echo "        -115 or -102) or no libseccomp.  Functions of design documents cannot be run then;" >&2
	@echo "        on Debian, \"make setup\" installs what is missing." >&2
endif

uninstall: uninstall-js
.PHONY: uninstall-js
uninstall-js:
	rm -f '$(DESTDIR)$(pkglibdir)/docrep_js'

# The same files as "make install", below the checkout.
.PHONY: stage
stage: all
	@rm -rf stage
	@$(MAKE) --no-print-directory -s install DESTDIR=$(CURDIR)/stage
	@command -v $(PG_CONFIG) > stage/pg_config

endif
endif
