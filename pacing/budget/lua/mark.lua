-- Notes how far an owner's ledger is judged now, and tells what was noted before.
--
-- KEYS: 1 marks of the owner.
-- ARGV: 1 sequence that is judged ('': none, only tell), 2 how long a mark is kept, in ms.
-- Answer: {sequence, age in ms, sequence, age in ms, ...}, oldest first, without the one that is noted now.
--
-- Marks, a sorted set: members 'AT_MS:SEQUENCE', by at_ms on the clock of this Redis.

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], now_ms - tonumber(ARGV[2]), '+inf', 'WITHSCORES')
local told = {}
for i = 1, #found, 2 do
    told[#told + 1] = tonumber(string.match(found[i], ':(%d+)$'))
    told[#told + 1] = now_ms - tonumber(found[i + 1])
end
if ARGV[1] ~= '' then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now_ms - tonumber(ARGV[2])))
    redis.call('ZADD', KEYS[1], now_ms, now_ms .. ':' .. ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return told
