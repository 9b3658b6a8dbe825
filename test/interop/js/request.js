// A bare request: node request.js METHOD URL [BODY].  A body that begins with @ names a
// file that has it.  Prints the answer's body; a status of 400 and more is an error.
'use strict';
const fs = require('fs');
const http = require('http');
const { main } = require('./pouch');

main(([method, url, body]) => new Promise((resolve, reject) => {
	const call = http.request(url, { method, headers: { Accept: 'application/json', 'Content-Type': 'application/json' } }, (answer) => {
		let text = '';
		answer.setEncoding('utf8');
		answer.on('data', (part) => {
			text += part;
		});
		answer.on('end', () => {
			process.stdout.write(text);
			if (answer.statusCode >= 400) {
				reject(new Error(method + ': ' + answer.statusCode + ' ' + text));
			} else {
				resolve();
			}
		});
	});
	call.on('error', reject);
	call.end(body !== undefined && body[0] === '@' ? fs.readFileSync(body.slice(1)) : body);
}));
