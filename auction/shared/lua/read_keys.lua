-- Reads the document of keys.
--
-- KEYS: 1 document, a hash: revision, text, active (digest of the active key), since_ms (when that was adopted).
-- ARGV: 1 the revision that the caller has (empty: none).
-- Answer: {revision (empty: there is no document), text (empty: the caller has it), for how many ms the active key has
-- been adopted}.

local found = redis.call('HMGET', KEYS[1], 'revision', 'text', 'since_ms')
if not found[1] then
    return {'', '', 0}
end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local text = found[1] == ARGV[1] and '' or found[2]
return {found[1], text, math.max(0, now_ms - tonumber(found[3]))}
