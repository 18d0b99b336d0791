-- Notes that an owner has settled its claims again in an epoch, behind epoch.lua.
--
-- KEYS: 1 epoch.
-- ARGV: 1 quarantine in ms, 2 owner_id, 3 number of the epoch in which it did.
-- Answer: the number of the present epoch. An owner without grants here is passed over, and so is an epoch to come.

local epoch = note_epoch(KEYS[1], tonumber(ARGV[1]))
local before, number = epoch.owners[ARGV[2]], tonumber(ARGV[3])
if before and before < number and number <= epoch.number then
    redis.call('HSET', KEYS[1], 'owner:' .. ARGV[2], number, 'told_at_ms', epoch.now_ms)
end
return epoch.number
