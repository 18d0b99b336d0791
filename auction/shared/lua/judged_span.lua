-- How far streams of judged rows reach.
--
-- KEYS: streams of one origin.
-- Answer: for each, {id of its first entry, id of its last}, ids as "LAST-FIRST" of the rows in the entry; {} if empty.

local spans = {}
for i, key in ipairs(KEYS) do
  local first = redis.call("XRANGE", key, "-", "+", "COUNT", 1)
  local last = redis.call("XREVRANGE", key, "+", "-", "COUNT", 1)
  spans[i] = first[1] and {first[1][1], last[1][1]} or {}
end
return spans
