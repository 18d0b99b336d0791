-- Replaces the document of keys, if it is still the one that the caller saw.
--
-- KEYS: 1 document (see read_keys.lua).
-- ARGV: 1 revision that is to be replaced (empty: there is none), 2 the new revision, 3 the new text, 4 digest of its
-- active key.
-- Answer: {1, for how many ms the active key has been adopted}, or {0, 0}: it is another one; nothing was written.

local found = redis.call('HMGET', KEYS[1], 'revision', 'active', 'since_ms')
if (found[1] or '') ~= ARGV[1] and found[1] ~= ARGV[2] then
    return {0, 0}
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local since_ms = now_ms
if found[2] == ARGV[4] then
    since_ms = tonumber(found[3])
end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'text', ARGV[3], 'active', ARGV[4], 'since_ms', since_ms)
return {1, math.max(0, now_ms - since_ms)}
