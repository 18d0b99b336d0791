-- Notes that an owner has told its charges again in an epoch or, besides, settled all that it had accepted; behind epoch.lua.
--
-- KEYS: 1 epoch.
-- ARGV: 1 quarantine in ms, 2 owner_id, 3 number of the epoch in which it did, 4 which of the two: told, owner.
-- Answer: the number of the present epoch. An owner without grants here is passed over, and so is an epoch to come.

local epoch = note_epoch(KEYS[1], tonumber(ARGV[1]))
local number, field = tonumber(ARGV[3]), ARGV[4] .. ':' .. ARGV[2]
if epoch.owners[ARGV[2]] and number <= epoch.number then
    if tonumber(redis.call('HGET', KEYS[1], field) or 0) < number then
        redis.call('HSET', KEYS[1], field, number)
    end
end
return epoch.number
