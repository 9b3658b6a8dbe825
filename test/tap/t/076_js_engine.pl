# The helper program for JavaScript alone, over its socket: what functions of design
# documents can do, what hostile ones cannot, and frames that make no sense.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../../lib";

use DocrepEngine;
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'docrep was built without docrep_js' unless defined DocrepEngine::program();

my $engine = DocrepEngine->start(timeout => 300);
my $generous = DocrepEngine->start(timeout => 60000);
is($engine->{protocol}, 1, 'the protocol');
like($engine->{version}, qr/^JavaScript-C\d+/, 'the engine says which it is');

# One function, one document: "verdict reason", or how the process has ended.
sub once { return once_in($engine, @_) }

sub once_in
{
	my ($in, @call) = @_;
	my @answer = $in->once(@call);
	return @answer ? join(' ', grep { $_ ne '' } @answer) : "gone: $in->{status}";
}

# After whatever hostile code has run, the same process (or a new one) still works.
sub still_works
{
	my ($name) = @_;
	my $answer = once('function(doc) { return [1, 2].map(x => x * doc.n).join() === "2,4" }', { n => 2 });
	if ($answer =~ /^gone/)
	{
		$engine->end;
		fail("$name: the process has gone");
		$engine = DocrepEngine->start(timeout => 300);
		return;
	}
	is($answer, 'yes', "$name: others are not disturbed");
}

subtest 'how functions may be written' => sub {
	my %source = (
		'function expression' => 'function(doc) { return true }',
		'named' => 'function check(doc) { return true }',
		'with a semicolon and a comment' => "function(doc) { return true }; // done",
		'after a comment' => "// first\n/* second */ function(doc) { return true }\n",
		'in brackets' => '(function(doc) { return true })',
		'arrow' => 'doc => true',
		'arrow with a body' => '(doc, req) => { const { query } = req; return query !== undefined }',
		'the last statement of a script' => 'var f = function(doc) { return true }; f',
		'with "use strict"' => '"use strict"; (doc) => true',
		'async, whose promise is true' => 'async function(doc) { return false }',
		'const, let, template, spread, class' =>
		  'function(doc) { const [a, ...b] = [1, 2, 3]; let s = `${a}${[...b]}`; class C { get x() { return s } } return new C().x === "12,3" }',
		'generators, maps, symbols' =>
		  'function(doc) { function* g() { yield* [1, 2] } return new Map([[1, [...g()]]]).get(1).length === 2 }',
		'null-safe access' => 'doc => (doc?.a?.b ?? 7) === 7',
	);
	is(once($source{$_}), 'yes', $_) for sort keys %source;
	is(once('function(doc) { return doc.n }', { n => $_->[0] }), $_->[1], "the truth of $_->[2]")
	  for [0, 'no', '0'], ['', 'no', 'an empty string'], [JSON::PP::null, 'no', 'null'],
	  [[], 'yes', 'an empty array'], ['no', 'yes', 'a string'];
	is(once('function(doc) {}'), 'no', 'the truth of nothing');
	like(once('1 + 1'), qr/^failed Expression does not eval to a function\. \(1 \+ 1\)/, 'no function');
	like(once('function( {'), qr/^failed SyntaxError: .* \(function\( \{\)/, 'no JavaScript');
	like(once('(() => { throw new Error("early") })()'), qr/^failed Error: early/, 'source that throws');
	is(once('(() => { while (true); })()'), 'failed ran longer than docrep.js_timeout allows, 300 ms',
		'source that does not end');
	is(once({}), 'failed the source of a function must be a string', 'source that is no string');
	$engine->realm(1, 0, { filters => { a => 'doc => true' } });
	is_deeply([ $engine->compile(1, 1, 'filter', [ 'filters', $_ ]) ], [ 'missing', "missing json key: $_" ],
		"no function $_") for 'b', 'toString', '__proto__';
	is_deeply([ $engine->compile(2, 1, 'filter', [ 'views', 'a', 'map' ]) ], [ 'missing', 'missing json key: views' ],
		'no functions of that kind');
};

subtest 'what functions find' => sub {
	my %true = (
		'the design document is this' => 'function(doc) { return this._id === "_design/app" && this.extra.a === 1 }',
		'isArray' => 'doc => isArray([]) && !isArray({ length: 1 })',
		'sum' => 'doc => sum([1, 2, 3]) === 6',
		'toJSON' => 'doc => toJSON({ a: [1] }) === \'{"a":[1]}\'',
		'JSON' => 'doc => JSON.parse("[1]")[0] === 1',
		'the request' => '(doc, req) => req.query.type === "x"',
		'dates of values' => 'doc => new Date("2020-02-03").getTime() === Date.UTC(2020, 1, 3) && new Date(0).getHours() === 0',
		'Date is a Date' => 'doc => new Date(1) instanceof Date && new Date(1).constructor === Date && typeof Date.parse("2020") === "number"',
		'a class that extends Date' => 'doc => { class D extends Date { twice() { return this * 2 } } return new D(4).twice() === 8 }',
		'random numbers are the same for each call' => '(function() { let first; return doc => { const x = Math.random(); if (first === undefined) first = x; return x === first && x >= 0 && x < 1 && Math.random() !== x } })()',
		'require' => 'doc => require("lib/a").name === "a"',
		'require of a neighbour and of one above' => 'doc => require("lib/deep/b").both === "a:c"',
		'require gives the same module again' => 'doc => require("lib/a") === require("lib/a")',
		'module and exports' => 'doc => require("lib/c").id === "lib/deep/c" || require("lib/deep/c").id === "lib/deep/c"',
		'modules that need each other' => 'doc => require("lib/x").fromY === "x seen by y: 1"',
		'a property __proto__ is just one' => 'doc => Object.keys(doc).includes("__proto__") && ({}).polluted === undefined',
		'no emit in a filter' => 'doc => typeof emit === "undefined"',
	);
	my $ddoc = {
		extra => { a => 1 },
		lib => {
			a => 'exports.name = "a";',
			c => 'exports.id = module.id; // a comment at the end',
			x => 'exports.one = 1; exports.fromY = require("./y").text;',
			y => 'exports.text = "x seen by y: " + require("./x").one;',
			bad => 'exports.x = ; ',
			throws => 'throw new TypeError("in a module");',
			loop => 'while (true);',
			deep => {
				b => 'module.exports = { both: require("../a").name + ":" + require("./c").name };',
				c => 'exports.name = "c"; exports.id = module.id;'
			}
		}
	};
	my $doc = \'{"_id":"a","__proto__":{"polluted":1}}';
	for my $name (sort keys %true)
	{
		my $source = $true{$name};
		$source =~ s/require\("lib\/c"\)\.id === "lib\/deep\/c" \|\| //;
		is(once($source, $doc, ddoc => $ddoc, args => [ { query => { type => 'x' } } ]), 'yes', $name);
	}
	my %error = (
		'lib/none' => qr/invalid_require_path: Object has no property "none"\. \{/,
		'lib' => qr/invalid_require_path: Must require a JavaScript string, not: object/,
		'toString' => qr/invalid_require_path: Object has no property "toString"/,
		'./a' => qr/invalid_require_path: Object has no parent/,
		'lib/../..' => qr/invalid_require_path: Object has no parent/,
		'lib/bad' => qr/compilation_error: Module require\('lib\/bad'\) raised error SyntaxError/,
		'lib/throws' => qr/compilation_error: Module require\('lib\/throws'\) raised error TypeError: in a module/,
		'lib/loop' => qr/ran longer than/,
	);
	like(once("doc => require('$_')", $doc, ddoc => $ddoc), qr/^failed $error{$_}/, "require('$_')")
	  for sort keys %error;

	is(once('function(doc) { emit(doc._id, 1) }', undef, kind => 'view'), 'yes', 'a view that emits');
	is(once('function(doc) { return true }', undef, kind => 'view'), 'no', 'a view that does not');
	is(once('function(n, o, ctx, sec) { if (o === null && ctx.name === "me" && sec.admins) throw { forbidden: "f" } }', {},
			kind => 'validate', args => [ undef, { name => 'me' }, { admins => {} } ]), 'forbidden f', 'the arguments of a validation');
	like(once('async function() { throw { forbidden: "no" } }', {}, kind => 'validate', args => [ undef, {}, {} ]),
		qr/^failed Error: a validation function must not be async/, 'a validation whose promise would refuse too late');
	is(once('function() { return false }', {}, kind => 'validate', args => [ undef, {}, {} ]), 'yes',
		'what a validation returns does not matter');

	@{ $engine->{logs} } = ();
	once('doc => { log("text"); log({ a: 1 }); log("x".repeat(5000)); log(undefined); for (let i = 0; i < 1000; i++) log(i) }');
	is($engine->{logs}[0], 'text', 'log of a text');
	is($engine->{logs}[1], '{"a":1}', 'log of an object');
	is(length $engine->{logs}[2], 1000, 'log of a long text is cut');
	is(scalar @{ $engine->{logs} }, 100, 'so many lines and no more');
};

subtest 'what is thrown' => sub {
	my @cases = (
		[ '{ forbidden: "no" }', 'forbidden no' ],
		[ '{ unauthorized: "who" }', 'unauthorized who' ],
		[ '{ forbidden: { a: 1 } }', 'forbidden {"a":1}' ],
		[ '{ forbidden: "" }', 'forbidden' ],
		[ '"text"', 'failed text' ],
		[ '7', 'failed 7' ],
		[ 'null', 'failed null' ],
		[ 'undefined', 'failed undefined' ],
		[ 'Symbol("s")', 'failed something was thrown that cannot be shown' ],
		[ '{ a: 1 }', 'failed {"a":1}' ],
		[ '["error", "name", "reason"]', 'failed ["error","name","reason"]' ],
		[ 'new RangeError("r")', 'failed RangeError: r' ],
		[ 'Object.assign(new Error("e"), { name: "Mine" })', 'failed Mine: e' ],
		[ 'doc.a()', 'failed TypeError: doc.a is not a function' ],
		[ 'function() {}', qr/^failed function/ ],
		[ '{ toString() { return "trap" } }', 'failed {}' ],
		[ '{ toJSON() { throw 1 }, toString() { return "second" } }', 'failed second' ],
		[ '{ toJSON() { throw 1 }, toString() { throw 2 } }', 'failed something was thrown that cannot be shown' ],
		[ '{ toJSON() { while (true); } }', qr/^failed ran longer/ ],
		[ '{ get forbidden() { while (true); } }', qr/^failed ran longer/ ],
		[ '{ get forbidden() { throw 1 }, unauthorized: "u" }', 'unauthorized u' ],
		[ '{ get forbidden() { return { toString() { while (true); }, toJSON() { throw 1 } } } }', qr/^failed ran longer/ ],
		[ 'Object.assign(new Error("e"), { toString() { throw 1 } })', 'failed something was thrown that cannot be shown' ],
		[ 'new Proxy({}, { get() { throw 1 }, has() { throw 2 }, ownKeys() { throw 3 } })', qr/^failed / ],
		[ 'new Proxy({}, { get() { while (true); } })', qr/^failed ran longer/ ],
		[ 'new Proxy(function() {}, { get(t, k) { return k === "forbidden" ? "p" : undefined } })', 'forbidden p' ],
		[ '"\\ud800x"', "failed \xef\xbf\xbdx" ],
		[ '(() => { const o = {}; o.o = o; return o })()', 'failed [object Object]' ],
		[ 'new Array(1e5).fill("x")', qr/^failed \["x","x"/ ],
		[ '"x".repeat(1e7)', 'failed ' . 'x' x 1000 ],
		[ '{ forbidden: "\\u00e4".repeat(1e6) }', 'forbidden ' . "\xc3\xa4" x 500 ],
	);
	for my $case (@cases)
	{
		my ($thrown, $expected) = @$case;
		my $answer = once("doc => { throw $thrown }");
		ref $expected ? like($answer, $expected, $thrown) : is($answer, $expected, $thrown);
	}
	still_works('thrown things');
	unlike(once('doc => { throw new Error().stack }'), qr{/(?:usr|home|tmp|work|var|src)/|\.cc?\b|docrep_js}, 'a stack names no files of the host');
	like(once('doc => { throw new Error().stack }'), qr/f:1:/, 'but the function');
};

subtest 'no way out' => sub {
	for my $name (qw(setTimeout setInterval fetch XMLHttpRequest Worker process console load read print quit
		readline evalcx evaluate newGlobal os performance crypto SharedArrayBuffer Atomics WebAssembly window self))
	{
		is(once("doc => typeof $name === 'undefined'"), 'yes', "there is no $name");
	}
	like(once($_), qr/^failed Error: there is no clock here/, $_)
	  for 'doc => Date.now()', 'doc => new Date()', 'doc => Date()', 'doc => Date(1)', 'doc => Reflect.construct(Date, [])',
	  'doc => new (new Date(1).constructor)()', 'doc => new (Object.getPrototypeOf(class extends Date {}))()';
	is(once('doc => new Intl.DateTimeFormat("en-US", { timeZone: "UTC" }).format() === "1/1/1970"'), 'yes', 'the clock behind is stopped');
	is(once('doc => Intl.DateTimeFormat().resolvedOptions().timeZone === "UTC" && Intl.DateTimeFormat().resolvedOptions().locale === "en-US"'),
		'yes', 'nothing of the host in Intl');
	is(once('doc => typeof eval("1 + 1") === "number" && new Function("return this")() === globalThis'), 'yes',
		'eval and Function stay in the realm');
	is(once('doc => { globalThis.ran = 0; Promise.resolve().then(() => { globalThis.ran++ }); (async () => { await 1; while (true); })(); return globalThis.ran === 0 }'),
		'yes', 'nothing is done later');
	like(once('doc => { import("x"); return true }'), qr/^(?:yes|failed)/, 'import() leads nowhere');
	still_works('import()');
};

subtest 'limits' => sub {
	my $late = qr/^failed ran longer than docrep\.js_timeout allows, 300 ms$/;
	my $began = $engine->processor_time;
	like(once($_), $late, $_)
	  for 'doc => { while (true); }', 'doc => { for (;;) try { for (;;); } catch (e) {} finally { continue } }',
	  'doc => /(x+x+)+y/.test("x".repeat(40))', 'doc => { while (true) /(a|aa)+$/.test("a".repeat(15) + "b") }',
	  'doc => { [1, 2].sort(() => { while (true); }) }', 'doc => { JSON.stringify({ toJSON() { while (true); } }) }',
	  'doc => { for (const x of (function*() { while (true) yield 1 })()); }', 'doc => { new Array(4294967295).indexOf(1); while (true); }',
	  'doc => { ({ valueOf() { while (true); } }) + 1 }';
	cmp_ok($engine->processor_time - $began, '<', 9 * 1.3, 'all of these in time');
	still_works('endless loops');
	is(once_in($generous, 'doc => /(a+)+$/.test("a".repeat(20) + "b")'), 'no', 'a regular expression may take its time');

	like(once_in($generous, $_), qr/^failed (?:ran out of memory|out of memory|InternalError: allocation size overflow|RangeError)/, $_)
	  for 'doc => { const a = []; while (true) a.push({}) }', 'doc => { const a = []; while (true) a.push(new Array(1000).fill(1)) }',
	  'doc => { let s = "x"; while (true) s += s }', 'doc => { const a = []; while (true) a.push(new ArrayBuffer(1 << 20)) }',
	  'doc => { const m = new Map; for (let i = 0; ; i++) m.set(i, {}) }', 'doc => { const o = {}; for (let i = 0; ; i++) o["k" + i] = i }',
	  'doc => { new ArrayBuffer(2 ** 40) }', 'doc => { let b = 2n; while (true) b = b * b }',
	  'doc => { globalThis.kept = []; while (true) kept.push(new Array(1000).fill(1)) }';
	is(once_in($generous, 'doc => true'), 'yes', 'memory is there again for others');

	like(once($_), qr/^failed (?:InternalError: too (?:much recursion|many parentheses)|ran longer|ran out of memory)/, $_)
	  for 'doc => { (function f() { f() })() }', 'doc => { const f = () => { try { f() } finally { f() } }; f() }',
	  'doc => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a) }', 'doc => { eval("(".repeat(1e5)) }',
	  'doc => { new RegExp("(".repeat(1e5) + ")".repeat(1e5)) }';
	still_works('recursion');
	is(once('doc => doc.a.length === 1', \('{"a":' . '[' x 100000 . ']' x 100000 . '}')), 'yes', 'a document as deep as that');
	is(once('doc => doc.a.length', \('{"a":"' . 'x' x 10_000_000 . '"}')), 'yes', 'a document of 10 MB');
	like(once('doc => true', \'{"a":'), qr/^failed SyntaxError: JSON/, 'a document that is no JSON');
};

subtest 'realms' => sub {
	$engine->realm(1, 0, {
		_id => '_design/one',
		a => 'function(doc) { doc.list.push(1); this.seen = (this.seen || 0) + 1; globalThis.count = (globalThis.count || 0) + 1; return doc.list.length === 1 && count === this.seen }',
		b => 'function(doc) { return globalThis.count === doc.n }',
	});
	$engine->realm(2, 0, { _id => '_design/two', b => 'function(doc) { return typeof count === "undefined" && this.seen === undefined }' });
	$engine->compile(11, 1, 'filter', ['a']);
	$engine->compile(12, 1, 'filter', ['b']);
	$engine->compile(21, 2, 'filter', ['b']);
	is_deeply([ map { $_->[0] } $engine->call(11, map { [ { list => [] }, {} ] } 1 .. 3) ], [ ('yes') x 3 ],
		'documents are fresh, globals and this are not');
	is_deeply([ $engine->call(12, [ { n => 3 }, {} ]) ], [ [ 'yes', '' ] ], 'functions of a document share its globals');
	is_deeply([ $engine->call(21, [ {}, {} ]) ], [ [ 'yes', '' ] ], 'others have their own');

	# What one does to the things that are built in.
	$engine->realm(3, 0, { _id => '_design/three', lib => { m => 'exports.x = 1' }, f => <<'JS', g => 'doc => doc.ok && require("lib/m").x === 1' });
(function() {
	Object.defineProperty(Object.prototype, "forbidden", { get() { return "prototype" }, set() { throw 1 } });
	Object.defineProperty(Array.prototype, "0", { set() { throw 2 } });
	Array.prototype.push = Array.prototype.join = String.prototype.split = () => { throw 3 };
	JSON.parse = JSON.stringify = () => { throw 4 };
	Function.prototype.call = Function.prototype.apply = () => { throw 5 };
	Boolean.prototype.valueOf = () => { throw 6 };
	Map.prototype.get = Map.prototype.has = () => false;
	globalThis.Error = undefined;
	return doc => doc.ok;
})()
JS
	is_deeply([ $engine->compile(31, 3, 'filter', ['f']) ], [ 'yes', '' ], 'a function that spoils what is built in');
	is_deeply([ map { $_->[0] } $engine->call(31, [ { ok => 1 }, {} ], [ { ok => 0 }, {} ], [ [1], {} ]) ], [ 'yes', 'no', 'no' ],
		'documents and answers are as ever');
	still_works('spoilt prototypes');
	$engine->send_raw(DocrepEngine::frame('X', pack('L', $_))) for 1 .. 3;
	$engine->realm(1, 0, { f => 'doc => typeof count === "undefined"' });
	$engine->compile(41, 1, 'filter', ['f']);
	is_deeply([ $engine->call(41, [ {}, {} ]) ], [ [ 'yes', '' ] ], 'a realm that was forgotten begins anew');
};

subtest 'batches' => sub {
	$engine->realm(50, 0, { f => 'doc => { if (doc.n === 3) throw "three"; return doc.n % 2 }' });
	$engine->compile(50, 50, 'filter', ['f']);
	my @calls = map { [ { n => $_ }, {} ] } 1 .. 5;
	is(join(',', map { $_->[0] } $engine->call(50, @calls)), 'yes,no,failed,no,yes', 'each for itself');
	is(join(',', map { $_->[0] } $engine->call(50, { flags => 2 }, @calls)), 'yes,no,failed,not called,not called', 'up to the first error');
	is(join(',', map { $_->[0] } $engine->call(50, { flags => 1 }, @calls)), 'yes,no,failed,no,yes', 'carefully');
	my @many = map { $_->[0] } $engine->call(50, map { [ { n => $_ + 10 }, {} ] } 1 .. 5000);
	is(scalar(grep { $_ eq 'yes' } @many), 2500, 'many');
};

subtest 'the end' => sub {
	is($generous->end, 0, 'ends when nobody is there any more');
	my %garbage = (
		'no length' => pack('L', 0), 'too long' => pack('L', 0x7FFFFFFF), 'too long by far' => pack('L', 0xFFFFFFFF),
		'unknown type' => DocrepEngine::frame('?', ''), 'text' => "GET / HTTP/1.1\r\n\r\n" x 100,
		'a realm that is cut off' => DocrepEngine::frame('D', pack('S', 1)),
		'a function of no realm' => DocrepEngine::frame('F', pack('L L C L C', 1, 77, 0, 100, 0)),
		'a function with a long path' => DocrepEngine::frame('D', pack('L C a*', 1, 0, '{}')) . DocrepEngine::frame('F', pack('L L C L C', 1, 1, 0, 100, 200)),
		'a string longer than its frame' => DocrepEngine::frame('D', pack('L C a*', 1, 0, '{}')) . DocrepEngine::frame('F', pack('L L C L C L', 1, 1, 0, 100, 1, 0x7FFFFFFF)),
		'a kind that is none' => DocrepEngine::frame('D', pack('L C a*', 1, 0, '{}')) . DocrepEngine::frame('F', pack('L L C L C', 1, 1, 9, 100, 0)),
		'a batch of no function' => DocrepEngine::frame('B', pack('L L C L', 1, 100, 0, 1)),
		'a call without a batch' => DocrepEngine::frame('K', pack('C', 0)),
		'a call with many arguments' => DocrepEngine::frame('K', pack('C', 255)),
	);
	for my $name (sort keys %garbage)
	{
		my $e = DocrepEngine->start;
		$e->send_raw($garbage{$name});
		is_deeply([ $e->read_frame ], [], "$name: no answer");
		is($e->end, 2, "$name: ends");
	}
	my $seed = $ENV{DOCREP_SEED} // ($ENV{DOCREP_SOAK} ? time ^ $$ : 1);
	srand $seed;
	my %ends;
	for (1 .. 20)
	{
		my $e = DocrepEngine->start;
		my $bytes = join('', map { my $n = int rand 60; DocrepEngine::frame(substr('DXFBK', rand 5, 1), join('', map { chr(rand(4) < 2 ? rand 3 : rand 256) } 1 .. $n)) } 1 .. 50);
		$e->send_raw($bytes);
		shutdown $e->{socket}, 1;
		1 while $e->read_frame;
		$ends{ $e->end }++;
	}
	is_deeply([ grep { $_ ne '0' && $_ ne '2' } keys %ends ], [], "random frames do no more than end it (seed $seed)");

	my $busy = DocrepEngine->start;
	$busy->realm(1, 0, { f => 'doc => { while (true); }' });
	$busy->compile(1, 1, 'filter', ['f']);
	$busy->send_raw(DocrepEngine::frame('B', pack('L L C L', 1, 60000, 0, 1)) . DocrepEngine::frame('K', pack('C', 0)));
	kill 'TERM', $busy->{pid};
	is($busy->end, 'signal 15', 'a signal ends it in the middle of a call');
};

subtest 'the sandbox' => sub {
	my $program = DocrepEngine::program();
	my $try = sub {
		my $status = system($program, '--try', shift);
		return $status & 127 ? 'killed' : $status >> 8 ? 'refused' : 'possible';
	};
	is($try->('nothing'), 'possible', 'the test itself works');
	is($try->($_), 'killed', $_) for qw(socket exec kill ptrace executable);
	is($try->($_), 'refused', $_) for qw(open fork);
	SKIP: {
		skip 'system calls of other kinds are those of x86-64', 2 unless (POSIX::uname())[4] eq 'x86_64';
		is($try->($_), 'killed', "system calls of programs of another kind: $_") for '32 bits', 'x32';
	}

	# Nothing of ours is seen over there.
	open(my $secret, '<', $0) or die;
	fcntl($secret, 2, 0);
	local $ENV{PGPASSWORD} = 'secret';
	my $e = DocrepEngine->start;
	SKIP: {
		skip "needs /proc of another process, as root", 3 unless $> == 0;
		is(join(',', sort map { s{.*/}{}r } glob("/proc/$e->{pid}/fd/*")), '0,1,2,3', 'no other descriptors');
		open my $status, '<', "/proc/$e->{pid}/status" or die;
		my $text = join("", <$status>);
		like($text, qr{NoNewPrivs:\s+1\s}, "no new rights");
		like($text, qr{Seccomp:\s+2\s}, "and a filter of system calls");
	}
	$e->end;
};

is($engine->end, 0, 'the end');
done_testing;
