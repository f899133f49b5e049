module sallyport.test/cluster/traefik

go 1.26.0

require github.com/traefik/traefik/v3 v3.6.15
