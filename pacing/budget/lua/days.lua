-- Read ahead of other scripts: the days of one account, each read from it once.
--
-- days_of(account, daily): a function from a day_key to {cap, settled, leased}, in micros, where a day that is not there yet
-- has the cap `daily`; and the table of the days that were asked for, by day_key.

local function days_of(account, daily)
    local days = {}
    return function(day_key)
        local day = days[day_key]
        if not day then
            local stored = redis.call('HMGET', account, 'cap:' .. day_key, 'settled:' .. day_key, 'leased:' .. day_key)
            day = {
                cap = tonumber(stored[1] or daily), settled = tonumber(stored[2] or 0), leased = tonumber(stored[3] or 0)
            }
            days[day_key] = day
        end
        return day
    end, days
end

