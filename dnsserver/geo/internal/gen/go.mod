module github.com/divertdns/divert/dnsserver/geo/internal/gen

go 1.26.0

require github.com/phuslu/iploc v1.0.20260915
