-- Reads what is published of a shard, behind pace_now.lua.
--
-- KEYS: 1 lease (see pace_claim.lua), 2 plan.
-- ARGV: 1 instant or empty, 2 mark of the publication that is known already.
-- Answer: {1 if anybody may take the lease, mark, plan}; the plan is empty if it is known or there is none.

local found = redis.call('HMGET', KEYS[1], 'owner', 'until_ms', 'fence', 'serial')
local is_free = not found[1] or found[1] == '' or tonumber(found[2]) <= instant(ARGV[1])
local mark = (found[3] or '0') .. ':' .. (found[4] or '0')
local plan = ''
if mark ~= ARGV[2] then
    plan = redis.call('GET', KEYS[2]) or ''
end
return {is_free and 1 or 0, mark, plan}
