// Fills a database with what replication has to carry: node generate.js URL N SEED [small]
// makes N documents, the same for the same numbers; small leaves out requests of over 1 MB.  Everything is written with
// new_edits=false, so that histories and conflicts are what is said here.
'use strict';
const { open, random, each, main } = require('./pouch');

let next;		// the random numbers

const below = (n) => Math.floor(next() * n);
const pick = (list) => list[below(list.length)];
const hash = () => Array.from({ length: 4 }, () => ('0000000' + below(4294967296).toString(16)).slice(-8)).join('');
const words = 'lorem ipsum dolor sit amet Größe naïve 日本語 😀 "quoted" back\\slash tab\t new\nline \u2028 \u007f'.split(' ');

// Ids that somebody will get wrong.
const oddIds = [
	'a/b', 'a/b/c', '/', 'a+b', 'a b', ' leading', 'trailing ', 'a%2Fb', '%', '%00', 'a%20b', '😀', 'ü', 'u\u0308', '日本/語', '"', "'", '\\', 'a"b\'c',
	'?', 'a?rev=1', '#', 'a#b', '&', 'a&b=c', ';', ':', '@', '=', ',', '[', ']', '{}', '[1]', '<x>', '|', '^', '`', '~', '*', '$', '!', '..', '.', 'a/../b', '-', '0', 'null', 'true',
	'a\tb', 'a\nb', 'A', 'a', 'é', '\u00a0', '\u200b', '\ufeff', '\uffff', '\u{10ffff}', 'design/x', 'local/x',
	'x'.repeat(240), 'y'.repeat(1900), '😀'.repeat(300), 'z/'.repeat(400), 'constructor', 'x__proto__', 'toString',
];

function body(i) {
	return {
		type: pick(['order', 'customer', 'note']),
		n: i,
		amount: pick([0, -1, 1.5, 1e-7, 1e21, 123456789012345680000, 9007199254740991, 0.1]),
		text: Array.from({ length: 1 + below(20) }, () => pick(words)).join(' '),
		nested: { list: [1, 'two', null, true, { three: [] }, {}], empty: '', [pick(words)]: i },
	};
}

// A leaf: a path is revisions, the newest first, without their numbers.
function leaf(id, path, start, rest) {
	return Object.assign({ _id: id, _rev: start + '-' + path[0], _revisions: { start, ids: path } }, rest);
}

const history = (n, older = []) => Array.from({ length: n }, hash).concat(older);
const simple = (id, n, rest) => {
	const path = history(n);
	return [leaf(id, path, n, rest)];
};

// Branches of branches: a leaf at each of the depths 2 to 4 at least, all under one first revision.
function conflicts(id, i) {
	const first = history(1);
	const a = history(1, first);
	const b = history(1, first);
	const b1 = history(1, b);
	const b2 = history(1, b);
	const b21 = history(1, b2);
	const b22 = history(1 + below(3), b2);
	const leaves = [a, b1, b21, b22].map((path) => leaf(id, path, path.length, body(i)));
	if (i % 3 === 0) {
		Object.assign(leaves[below(4)], { _deleted: true });
	}
	if (i % 5 === 0) {
		// a root of its own
		leaves.push(...simple(id, 1 + below(2), body(i)));
	}
	return leaves;
}

const bytes = (n) => Buffer.from(Uint8Array.from({ length: n }, () => below(256)));

function attachments(i) {
	const made = { 'note.txt': { content_type: 'text/plain', data: Buffer.from('note ' + i + ' ' + pick(words)).toString('base64') } };
	if (i % 2 === 0) {
		made['dir/ü b+c%2F.bin'] = { content_type: 'application/octet-stream', data: bytes(below(3000)).toString('base64') };
	}
	if (i % 3 === 0) {
		made.empty = { content_type: 'text/html; charset=utf-8', data: '' };
	}
	if (i % 4 === 0) {
		// the same in many documents
		made['same.json'] = { content_type: 'application/json', data: Buffer.from('{"same": true}'.repeat(100)).toString('base64') };
	}
	return made;
}

const big = (text) => ({
	'big.bin': {
		content_type: text ? 'text/plain' : 'image/png',
		data: (text ? Buffer.from('all the same line\n'.repeat(58000)) : bytes(1 << 20)).toString('base64'),
	},
});

const designs = [
	{ _id: '_design/app', language: 'javascript', views: { by_type: { map: 'function (doc) { emit(doc.type, null); }', reduce: '_count' } } },
	{ _id: '_design/filters', filters: { orders: 'function (doc, req) { return doc.type === "order"; }' } },
	{ _id: '_design/with/slash', views: {} },
	{ _id: '_design/ü 😀+', note: 'an odd name' },
];

function documents(n) {
	const groups = [];
	designs.forEach((doc) => groups.push(simple(doc._id, 1 + below(3), doc)));
	oddIds.forEach((id, i) => groups.push(i % 4 === 0 ? conflicts(id, i) : simple(id, 1 + below(3), body(i))));
	oddIds.slice(0, 20).forEach((id, i) => groups.push(simple(id + ' with', 1, Object.assign(body(i), { _attachments: attachments(i) }))));
	[60, 60, 500, 999, 1000, 1001, 1200].forEach((length, i) => groups.push(simple('long-' + i, length, body(i))));
	[false, true, false].forEach((text, i) => groups.push(simple('big-' + i, 1 + i, Object.assign(body(i), { _attachments: big(text) }))));
	groups.push(simple('empty', 1, {}));
	groups.push(simple('many-members', 1, Object.fromEntries(Array.from({ length: 2000 }, (_, i) => ['member ' + i, i]))));
	groups.push(simple('deep', 1, { deep: JSON.parse('['.repeat(200) + ']'.repeat(200)) }));
	groups.push(simple('large', 1, { text: 'larger than a page '.repeat(10000) }));
	groups.push([false, true].map((deleted) => leaf('two-roots', history(2), 2, deleted ? { _deleted: true } : body(1))));
	groups.push([1, 2, 3].map((i) => leaf('attachments-in-conflict', history(i), i, Object.assign(body(i), { _attachments: attachments(i * 12) }))));

	for (let i = 0; groups.length < n; i += 1) {
		const id = 'doc-' + ('0000' + i).slice(-5);
		if (i % 17 === 3) {
			groups.push(conflicts(id, i));
		} else if (i % 13 === 5) {
			groups.push(simple(id, 2 + below(3), i % 2 ? { _deleted: true } : Object.assign(body(i), { _deleted: true })));
		} else if (i % 20 === 7) {
			groups.push(simple(id, 1 + below(3), Object.assign(body(i), { _attachments: attachments(i) })));
		} else {
			groups.push(simple(id, 1 + below(5) * below(2), body(i)));
		}
	}
	return groups.slice(0, n);
}

const large = (leaves) => leaves[0]._id.startsWith('big-');

main(async ([url, n, seed, small]) => {
	next = random(Number(seed));
	const db = open(url);
	const groups = documents(Number(n)).filter((leaves) => !small || !large(leaves));
	const batches = groups.filter(large);
	const rest = groups.filter((leaves) => !large(leaves));
	for (let i = 0; i < rest.length; i += 100) {
		batches.push(rest.slice(i, i + 100).flat());
	}
	await each(batches, 1, async (docs) => {
		const failed = (await db.bulkDocs(docs, { new_edits: false })).filter((row) => row.error);
		if (failed.length > 0) {
			throw new Error('not written: ' + JSON.stringify(failed.slice(0, 3)));
		}
	});
	process.stdout.write(JSON.stringify({
		documents: groups.length,
		leaves: groups.flat().length,
		tombstones: groups.filter((leaves) => leaves.every((doc) => doc._deleted)).length,
		conflicts: groups.filter((leaves) => leaves.filter((doc) => !doc._deleted).length > 1).length,
		attachments: groups.flat().reduce((sum, doc) => sum + Object.keys(doc._attachments || {}).length, 0),
	}) + '\n');
});
