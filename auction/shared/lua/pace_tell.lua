-- Tells who paces a shard what another server saw of it.
--
-- KEYS: 1 lease (see pace_claim.lua), 2 told, a list of messages, 3 tellers, a hash of their last numbers.
-- ARGV: 1 teller, 2 its session, 3 number of the message in it, 4 message, 5 how many messages are kept.
-- Answer: 1 if it is new, 0 if it was told before.

local lease, told, tellers = KEYS[1], KEYS[2], KEYS[3]
local session, number = string.match(redis.call('HGET', tellers, ARGV[1]) or '', '^(%w+):(%d+)$')
if session == ARGV[2] and tonumber(number) >= tonumber(ARGV[3]) then
    return 0
end
redis.call('HSET', tellers, ARGV[1], ARGV[2] .. ':' .. ARGV[3])
redis.call('RPUSH', told, ARGV[4])
redis.call('LTRIM', told, -tonumber(ARGV[5]), -1)
redis.call('HINCRBY', lease, 'pushed', 1)
return 1
