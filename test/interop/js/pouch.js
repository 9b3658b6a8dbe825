// What the helper programs share: PouchDB as a client, and small tools.
'use strict';
const PouchDB = require('pouchdb');

// A database behind HTTP, as PouchDB sees it; it is not made by looking.
function open(url) {
	return new PouchDB(url, { skip_setup: true });
}

// Numbers in [0, 1) that are the same for the same seed (a 32-bit xorshift).
function random(seed) {
	let x = (seed | 0) || 1;
	return () => {
		x ^= x << 13;
		x ^= x >>> 17;
		x ^= x << 5;
		return (x >>> 0) / 4294967296;
	};
}

// JSON with the members of objects in order.
function canonical(value) {
	if (Array.isArray(value)) {
		return '[' + value.map(canonical).join(',') + ']';
	}
	if (value !== null && typeof value === 'object') {
		return '{' + Object.keys(value).sort().map((key) => JSON.stringify(key) + ':' + canonical(value[key])).join(',') + '}';
	}
	return JSON.stringify(value);
}

// Does something with all items, so many at a time; the results in order.
async function each(items, width, work) {
	const results = new Array(items.length);
	let next = 0;
	await Promise.all(Array.from({ length: width }, async () => {
		while (next < items.length) {
			const i = next++;
			results[i] = await work(items[i], i);
		}
	}));
	return results;
}

// A program's main part: what it throws ends it with status 1.  It ends when its
// output has been written, which exit alone would not wait for.
function main(work) {
	work(process.argv.slice(2)).then(() => process.stdout.write('', () => process.exit(0)), (error) => {
		process.stderr.write((error && error.stack || '') + ' ' + JSON.stringify(error) + '\n');
		process.exit(1);
	});
}

module.exports = { PouchDB, open, random, canonical, each, main };
