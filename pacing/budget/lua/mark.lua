-- Notes how far an owner's ledger is judged.
--
-- KEYS: 1 marks of the owner.
-- ARGV: 1 sequence that is judged, 2 how many marks are kept.
-- Answer: how many there are.
--
-- Marks, a list: 'AT_MS:SEQUENCE', newest first; at_ms is on the clock of this Redis. They stay, so that an old copy of this
-- Redis still says up to where it has what the owner charged.

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('LPUSH', KEYS[1], string.format('%.0f:%s', now_ms, ARGV[1]))
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
return redis.call('LLEN', KEYS[1])
