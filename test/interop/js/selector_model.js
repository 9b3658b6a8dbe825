// CouchDB's rules for selectors, as plainly as can be: normalize, then match.
// It knows nothing of how docrep does it.
'use strict';

const isObject = v => typeof v === 'object' && v !== null && !Array.isArray(v);

function rank(v) {
  if (v === null) return 0;
  if (v === false) return 1;
  if (v === true) return 2;
  if (typeof v === 'number') return 3;
  if (typeof v === 'string') return 4;
  return Array.isArray(v) ? 5 : 6;
}

// The order of Erlang's terms, for _id.
const rawRank = v => [2, 1, 3, 0, 6, 5, 4][rank(v)];

function compareLists(a, b, raw) {
  for (let i = 0; i < a.length && i < b.length; i++) {
    const c = compare(a[i], b[i], raw);
    if (c !== 0) return c;
  }
  return a.length - b.length;
}

// Strings: of lower case letters only, for which all orders are the same.
function compare(a, b, raw) {
  const [ra, rb] = raw ? [rawRank(a), rawRank(b)] : [rank(a), rank(b)];
  if (ra !== rb) return ra - rb;
  if (typeof a === 'number') return a - b;
  if (typeof a === 'string') return a < b ? -1 : a > b ? 1 : 0;
  if (Array.isArray(a)) return compareLists(a, b, raw);
  return isObject(a) ? compareLists(Object.entries(a).flat(), Object.entries(b).flat(), raw) : 0;
}

const splitPath = path => path.split(/(?<!\\)\./).map(part => part.replace(/\\/g, ''));

// What is at a path: {state: found|not_found|bad_path, value}
function getField(doc, path) {
  let value = doc;
  for (const name of path === '' ? [] : splitPath(path)) {
    if (Array.isArray(value)) {
      if (!/^[+-]?\d+$/.test(name) || Number(name) < 0 || Number(name) >= value.length) return { state: 'bad_path' };
      value = value[Number(name)];
    } else if (isObject(value)) {
      if (!Object.hasOwn(value, name)) return { state: 'not_found' };
      value = value[name];
    } else return { state: 'bad_path' };
  }
  return { state: 'found', value };
}

// Is there something before the end of a path that JavaScript takes for false?
function passesFalsy(doc, path) {
  const parts = splitPath(path);
  for (let n = 1; n < parts.length; n++) {
    const found = getField(doc, parts.slice(0, n).join('.'));
    if (found.state === 'found' && !found.value) return true;
  }
  return false;
}

// Everything explicit: [op, arguments...] with op and, or, not, or ['field', path, op, arg].
function explicit(sel, path) {
  if (!isObject(sel) || Object.keys(sel).length === 0) return ['field', path, '$eq', sel];
  const members = Object.entries(sel);
  if (members.length > 1) return ['and', ...members.map(([k, v]) => explicit({ [k]: v }, path))];
  const [key, arg] = members[0];
  switch (key) {
    case '$and':
    case '$or':
      return [key.slice(1), ...arg.map(a => explicit(a, path))];
    case '$nor':
      return ['nor', ...arg.map(a => explicit(a, path))];
    case '$not':
      return ['not', explicit(arg, path)];
    case '$elemMatch':
    case '$allMatch':
    case '$keyMapMatch':
      return ['field', path, key, explicit(arg, '')];
    default:
      if (key[0] === '$') return ['field', path, key, arg];
      return explicit(arg, path === '' ? key : `${path}.${key}`);
  }
}

const opposite = { $lt: '$gte', $gte: '$lt', $lte: '$gt', $gt: '$lte', $eq: '$ne', $ne: '$eq', $in: '$nin', $nin: '$in' };

// Negations go inwards.
function inwards(node, negate) {
  const [op, ...args] = node;
  switch (op) {
    case 'not':
      return inwards(args[0], !negate);
    case 'nor':
      return [negate ? 'or' : 'and', ...args.map(a => inwards(a, !negate))];
    case 'and':
    case 'or':
      return [negate ? (op === 'and' ? 'or' : 'and') : op, ...args.map(a => inwards(a, negate))];
  }
  const [path, cond, arg] = args;
  if (!negate) return ['field', path, cond, /Match$/.test(cond) ? inwards(arg, false) : arg];
  if (opposite[cond]) return ['field', path, opposite[cond], arg];
  if (cond === '$exists') return ['field', path, cond, !arg];
  return ['field', path, 'not', [cond, arg]];
}

function holds(cond, arg, value, raw) {
  const cmp = other => compare(value, other, raw);
  switch (cond) {
    case 'not': return !holds(arg[0], arg[1], value, raw);
    case '$lt': return cmp(arg) < 0;
    case '$lte': return cmp(arg) <= 0;
    case '$gt': return cmp(arg) > 0;
    case '$gte': return cmp(arg) >= 0;
    case '$eq': return cmp(arg) === 0;
    case '$ne': return cmp(arg) !== 0;
    case '$in': return arg.some(a => (Array.isArray(value) ? value : [value]).some(v => compare(v, a, raw) === 0));
    case '$nin': return !holds('$in', arg, value, raw);
    case '$exists': return arg;
    case '$type': return arg === ['null', 'boolean', 'boolean', 'number', 'string', 'array', 'object'][rank(value)];
    case '$size': return Array.isArray(value) && value.length === arg;
    case '$mod': return Number.isInteger(value) && value % arg[0] === arg[1];
    case '$regex': return typeof value === 'string' && new RegExp(arg).test(value);
    case '$beginsWith': return typeof value === 'string' && value.startsWith(arg);
    case '$all':
      if (arg.length === 0 || !Array.isArray(value)) return false;
      if (arg.length === 1 && Array.isArray(arg[0]) && compare(arg[0], value, false) === 0) return true;
      return arg.every(a => value.some(v => compare(a, v, false) === 0));
    case '$elemMatch': return Array.isArray(value) && value.some(v => match(arg, v, raw));
    case '$allMatch': return Array.isArray(value) && value.length > 0 && value.every(v => match(arg, v, raw));
    case '$keyMapMatch': return isObject(value) && Object.keys(value).some(k => match(arg, k, raw));
    default: throw new Error(`unknown operator ${cond}`);
  }
}

function match(node, doc, raw) {
  const [op, ...args] = node;
  switch (op) {
    case 'and': return args.every(a => match(a, doc, raw));
    case 'or': return args.length === 0 || args.some(a => match(a, doc, raw));
    // inside of a negated $elemMatch they are still there
    case 'not': return !match(args[0], doc, raw);
    case 'nor': return !match(['or', ...args], doc, raw);
  }
  const [path, cond, arg] = args;
  const found = getField(doc, path);
  if (found.state === 'found') return holds(cond, arg, found.value, raw || path === '_id');
  return found.state === 'not_found' && cond === '$exists' && arg === false;
}

function matches(sel, doc) {
  if (Object.keys(sel).length === 0) return true;
  return match(inwards(explicit(sel, ''), false), doc, false);
}

module.exports = { matches, getField, passesFalsy };
