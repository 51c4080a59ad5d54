module github.com/ls1intum/edutelligence/logos/tools/protovalidate

go 1.26.0

require github.com/bufbuild/protovalidate v1.2.2
