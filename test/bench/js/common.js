// What the benchmark's programs share: a bare HTTP client, and waiting.
'use strict';
const http = require('http');

const agent = new http.Agent({ keepAlive: true, maxSockets: 8, noDelay: true });

// One request; resolves with the parsed answer, rejects on a status of 400 and more.
function request(base, method, path, body) {
	const text = body === undefined ? undefined : JSON.stringify(body);
	return new Promise((resolve, reject) => {
		const call = http.request(base + path, {
			method, agent,
			headers: text === undefined ? {} : {
				'Content-Type': 'application/json',
				'Content-Length': Buffer.byteLength(text),
			},
		}, (answer) => {
			const parts = [];
			answer.on('data', (part) => parts.push(part));
			answer.on('end', () => {
				const all = Buffer.concat(parts).toString();
				if (answer.statusCode >= 400) {
					reject(new Error(method + ' ' + path + ': ' + answer.statusCode + ' ' + all.slice(0, 200)));
				} else {
					resolve(all === '' ? null : JSON.parse(all));
				}
			});
			answer.on('error', reject);
		});
		call.on('error', reject);
		call.end(text);
	});
}

// The rows of a continuous feed of a database; stops the process's wait when onRow returns true.
function follow(base, db, since, onRow) {
	return new Promise((resolve, reject) => {
		const call = http.get(base + '/' + db + '/_changes?feed=continuous&heartbeat=5000&include_docs=true&since=' + since,
			(answer) => {
				let rest = '';
				answer.on('data', (part) => {
					const lines = (rest + part).split('\n');
					rest = lines.pop();
					for (const line of lines) {
						if (line.trim() !== '' && onRow(JSON.parse(line))) {
							call.destroy();
							resolve();
							return;
						}
					}
				});
			});
		call.on('error', reject);
	});
}

module.exports = { request, follow };
