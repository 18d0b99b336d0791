-- Drops days of a campaign that have nothing leased.
--
-- KEYS: 1 account.
-- ARGV: day keys.
-- Answer: how many were dropped.
-- Hashes: see set_caps.lua.

local dropped = 0
for _, day_key in ipairs(ARGV) do
    local leased = redis.call('HGET', KEYS[1], 'leased:' .. day_key)
    if tonumber(leased or 0) == 0 then
        redis.call('HDEL', KEYS[1], 'cap:' .. day_key, 'settled:' .. day_key, 'leased:' .. day_key)
        dropped = dropped + 1
    end
end
return dropped
