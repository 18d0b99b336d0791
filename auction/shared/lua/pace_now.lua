-- Read ahead of other scripts: the instant by which leases are judged, in ms.
--
-- An empty argument means this Redis's own clock, one for all servers; a test brings its own time.

local function instant(argument)
    if argument ~= '' then
        return tonumber(argument)
    end
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

