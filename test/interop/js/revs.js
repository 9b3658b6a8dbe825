// The leaf revisions of every document, from the changes feed: node revs.js URL
// prints a line for each document, its id in hexadecimal digits.
'use strict';
const { open, main } = require('./pouch');

main(async ([url]) => {
	const feed = await open(url).changes({ since: 0, style: 'all_docs', batch_size: 10000 });
	process.stdout.write(feed.results.map(({ id, changes }) =>
		Buffer.from(id).toString('hex') + '\t' + changes.map((change) => change.rev).sort().join() + '\n').join(''));
});
